"""The command line of the embedded cluster: `python -m toxicity_cluster COMMAND`; `--help` lists the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from toxicity_cluster import build, containerd, demo, environments, images, images_bake, lifecycle, prune, push
from toxicity_cluster.errors import ClusterError
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

MODULES = (
    ("images", images, "build the container images"),
    ("bake", images_bake, "write or check docker-bake.json"),
    ("push", push, "push the images to a registry, and name them in files"),
    ("environment", environments, "run a command with an image's packages"),
    ("demo", demo, "from an empty machine to a Ready ToxicityModel"),
)
"""Commands with a module of their own: `add_arguments` declares their arguments, and `main` runs them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 after an error message on stderr."""
    options = parse(arguments)
    try:
        return run(options, Settings.from_environment(), Progress())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="toxicity_cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    with_keda = argparse.ArgumentParser(add_help=False)
    with_keda.add_argument("--keda", action="store_true", help="also Prometheus and KEDA")
    commands.add_parser("build", help="build the cluster's programs into the cache", parents=[with_keda])
    program = commands.add_parser("program", help="print the path of one program, building it if it is missing")
    program.add_argument("name", choices=sorted(program.name for program in build.EVERY_PROGRAM))
    start = "start or repair the cluster, and wait until it is usable"
    up = commands.add_parser("up", help=start, parents=[with_keda])
    up.add_argument(
        "--nodes", type=int, choices=(1, 2), default=1, help="an existing second node stays (default: 1)"
    )
    commands.add_parser("down", help="remove the cluster and keep the cache")
    commands.add_parser("status", help="list the problems of the cluster; exit with 1 if there are any")
    load = commands.add_parser("load", help="import images into every node")
    load.add_argument("image", nargs="+", help="the name of a built image, or an OCI archive")
    commands.add_parser("prune", help="remove from the cache what this checkout does not use")
    commands.add_parser("base-model", help="copy the base model out of its image and print its folder")
    for name, module, help_text in MODULES:
        command = commands.add_parser(name, help=help_text)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, settings: Settings, progress: Progress) -> int:
    if "main" in options:
        return int(options.main(options, settings, progress))
    match options.command:
        case "build":
            prune.ensure_machine(settings, progress)
            optional = build.OPTIONAL_PROGRAMS if options.keda else ()
            build.build_programs(settings, progress, (*build.PROGRAMS, *optional))
        case "program":
            print(build.build_program(settings, progress, options.name))
        case "up":
            lifecycle.up(settings, progress, with_keda=options.keda, nodes=options.nodes)
        case "down":
            lifecycle.down(settings, progress)
        case "status":
            return report_status(settings)
        case "load":
            load_images(options.image, settings, progress)
        case "prune":
            prune.prune(settings, progress)
        case "base-model":
            print(environments.ensure_base_model(settings, progress))
    return 0


def load_images(images: Sequence[str], settings: Settings, progress: Progress) -> None:
    for image in images:
        for node in settings.nodes:
            with progress.step(f"loading {image} into {node.node.name}"):
                containerd.load(node, image)


def report_status(settings: Settings) -> int:
    problems = lifecycle.find_problems(settings)
    for problem in problems:
        print(f"- {problem}")
    if not problems:
        print(f"the cluster is usable; KUBECONFIG={settings.kubeconfig}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
