"""`python -m toxicity_cluster demo`: from an empty machine to a Ready ToxicityModel that classifies two texts.

Each step is idempotent: a second run builds and trains only what has changed. With `--cluster current`, no cluster is
started, and the images are pushed to a registry (`--registry`).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from toxicity_api.base import PLURAL
from toxicity_cluster.demo_cluster import choose_cluster, prepare_cluster
from toxicity_cluster.demo_install import (
    OPERATOR_NAMESPACE,
    SAMPLE_DATASET,
    Installation,
    dataset_file_name,
    install_chart,
    load_sample,
    with_images,
)
from toxicity_cluster.demo_kubectl import DeadlineExceeded, Kubectl, Manifest, diagnostics
from toxicity_cluster.demo_probe import classify
from toxicity_cluster.demo_pull import NO_SECRET, check_pull, ensure_access
from toxicity_cluster.demo_report import load_lines, quality_lines, step_table
from toxicity_cluster.demo_watch import ModelFailed, Watcher, status_of
from toxicity_cluster.engines import ENGINES, choose_engine, is_usable
from toxicity_cluster.errors import Refusal
from toxicity_cluster.kubectl import program
from toxicity_cluster.progress import Progress
from toxicity_cluster.registry_login import login_files
from toxicity_cluster.settings import Settings

NAMESPACE = "default"
READY_DEADLINE_SECONDS = 90 * 60.0

EXAMPLES = (
    "Да ты просто тупой баран, закрой рот и не позорься",
    "Спасибо за подробный ответ, завтра попробую и напишу, что получилось",
)


@dataclass
class Steps:
    """Progress that also records the duration of each step, for the table at the end."""

    progress: Progress
    taken: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        with self.progress.step(name):
            yield
        self.taken.append((name, time.monotonic() - began))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command `demo`."""
    parser.add_argument(
        "--dataset",
        type=Path,
        default=SAMPLE_DATASET,
        help="CSV file, also gzipped, with the columns comment,toxic (default: the sample data of this repository)",
    )
    parser.add_argument(
        "--cluster",
        choices=("embedded", "current"),
        help="current: that of KUBECONFIG or ~/.kube/config (default: current if KUBECONFIG is set)",
    )
    parser.add_argument(
        "--registry", help="with another cluster: push the images below this prefix, from which it can pull them"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, help="with another cluster: the program that builds the images"
    )
    parser.add_argument(
        "--pull-secret",
        help=f"with another cluster: a Secret in the namespaces {OPERATOR_NAMESPACE} and {NAMESPACE} with which the"
        f" nodes pull, or {NO_SECRET} (default: one of the login with which the images are pushed)",
    )


def main(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> int:
    """Run the demo. Returns 0 if the model is Ready and answers, 1 if it failed."""
    dataset: Path = arguments.dataset.resolve()
    if not dataset.is_file():
        raise Refusal(f"{dataset} is not a file: give DATASET a CSV with the columns comment,toxic.")
    steps = Steps(progress)
    registry: str | None = arguments.registry
    settings = choose_cluster(arguments.cluster, settings, registry, Path.home())
    engine, pull_secrets = "buildah", tuple[str, ...]()
    if registry:
        engine = choose_engine(arguments.engine, os.geteuid() == 0, is_usable)
        progress.say(f"the cluster is that of {settings.given_kubeconfig}; {engine} builds the images")
        with steps.step(f"preparing the cluster to pull from {registry}"):
            pull_secrets = prepare_to_pull(settings, progress, registry, arguments.pull_secret, engine)
    installation = prepare_cluster(settings, progress, steps.step, dataset, registry, engine=engine)
    installation = replace(installation, pull_secrets=pull_secrets)
    if registry:
        with steps.step("checking that a node can pull the images"):
            check_pull(installation, NAMESPACE, ENGINES[engine].program)
    with steps.step("installing the chart"):
        install_chart(installation)
    manifest = with_images(load_sample("cpu"), installation.images, dataset_file_name(dataset), pull_secrets)
    try:
        with steps.step("applying manifests/samples/cpu.yaml and waiting until it is Ready"):
            model = apply_and_follow(installation, manifest)
    except (ModelFailed, DeadlineExceeded) as error:
        print(diagnostics(installation.kubectl, NAMESPACE))
        progress.say(str(error))
        return 1
    show_figures(installation, model)
    with steps.step("asking the service from a pod"):
        show_answers(installation, model)
    print("\n".join(["", *step_table(steps.taken)]))
    return 0


def prepare_to_pull(
    settings: Settings, progress: Progress, registry: str, given: str | None, engine: str
) -> tuple[str, ...]:
    """The names of the pull Secrets, which both namespaces have.

    A cluster that is out of reach, or a program that is missing, fails here, before the images are built.
    """
    kubectl = Kubectl(program("kubectl", settings), settings.kubeconfig)
    program("helm", settings)
    kubectl.ensure_namespace(OPERATOR_NAMESPACE)
    logins = login_files(ENGINES[engine].program, os.environ, Path.home(), os.geteuid())
    return ensure_access(kubectl, registry, given, logins, (OPERATOR_NAMESPACE, NAMESPACE), progress.say)


def apply_and_follow(installation: Installation, manifest: Manifest) -> Manifest:
    """Apply the resource and print its changes until it is done."""
    installation.kubectl.apply(manifest, NAMESPACE)
    watcher = Watcher(installation.kubectl, NAMESPACE, say=lambda line: print(line, flush=True))
    return watcher.follow(manifest["metadata"]["name"], READY_DEADLINE_SECONDS)


def show_figures(installation: Installation, model: Manifest) -> None:
    """Print the `kubectl get` row and the figures of the status."""
    status = status_of(model)
    print()
    print(installation.kubectl.run("get", PLURAL, model["metadata"]["name"], "-n", NAMESPACE))
    print("\n".join(quality_lines(status)))
    if status.load_test is not None:
        print("\n".join(["", *load_lines(status.load_test), ""]))


def show_answers(installation: Installation, model: Manifest) -> None:
    """Classify two texts over HTTP from inside the cluster, and print the scores."""
    serving = status_of(model).serving
    if serving is None or not serving.url:
        raise ModelFailed("status.serving.url is empty although the model is Ready")
    image = installation.images["loadtest"]
    answers = classify(installation.kubectl, NAMESPACE, image, serving.url, EXAMPLES, installation.pull_secrets)
    for answer in answers:
        print(f"  {'toxic' if answer.toxic else 'harmless':<9} {answer.score:.3f}  {answer.text}")
