"""`python -m toxicity_cluster push REGISTRY`: pushes the images, and writes values and samples that name them."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from toxicity_cluster.commands import run
from toxicity_cluster.demo_install import (
    ROOT,
    SAMPLE_DATASET,
    chart_values,
    dataset_file_name,
    load_sample,
    with_images,
)
from toxicity_cluster.engines import ENGINES, choose_engine, is_usable, push_commands
from toxicity_cluster.errors import CommandFailed, Refusal
from toxicity_cluster.images import build_images
from toxicity_cluster.images_parts import OPTIONAL, PARENTS, REQUIRED
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

OUTPUT = ROOT / "build" / "push"
VALUES_FILE = "my-images.yaml"
SAMPLE = "cpu"

_LOGIN = re.compile(r"unauthorized|authentication required|\b401\b|\bdenied\b", re.IGNORECASE)
_CERTIFICATE = re.compile(r"x509|certificate", re.IGNORECASE)


def registry_prefix(given: str) -> str:
    """The prefix below which images are pushed. Raises Refusal unless it begins with a host name, as in `host/path`."""
    prefix = given.rstrip("/")
    if "://" in prefix or not re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*", prefix):
        raise Refusal(
            f"REGISTRY is {given!r}: set it to a host and a path in lower case without a scheme, such as"
            " registry.example/team."
        )
    return prefix


def push_images(
    settings: Settings, progress: Progress, images: Mapping[str, str], registry: str, engine: str = "buildah"
) -> dict[str, str]:
    """Push each image below the registry's prefix; return the references there by part.

    The engine finds the login that its command `login` left; buildah and podman also find docker's. Raises Refusal
    with the remedy if the registry wants a login or its certificate is not trusted, and CommandFailed for other
    failures.
    """
    prefix = registry_prefix(registry)
    pushed = {}
    for part, reference in images.items():
        target = f"{prefix}/{reference.rpartition('/')[2]}"
        with progress.step(f"pushing {target}"):
            _push(settings, reference, target, engine)
        pushed[part] = target
    return pushed


def _push(settings: Settings, reference: str, target: str, engine: str) -> None:
    try:
        for command in push_commands(settings, engine, reference, target):
            run(command)
    except CommandFailed as error:
        host = target.partition("/")[0]
        if _LOGIN.search(str(error)):
            raise Refusal(
                f"The registry {host} refused {target}: run `{ENGINES[engine].program} login {host}` as a user who may"
                f" push it. ({error})"
            ) from error
        if _CERTIFICATE.search(str(error)):
            raise Refusal(
                f"The certificate of the registry {host} is not trusted: add its CA to the system's certificates, or to"
                f" {_certificates(engine)}/{host}/ca.crt. ({error})"
            ) from error
        raise


def _certificates(engine: str) -> str:
    """The folder in which the engine looks for the CA of a registry; only docker's needs root."""
    return "/etc/docker/certs.d" if engine == "docker" else "~/.config/containers/certs.d"


def write_files(
    folder: Path, images: Mapping[str, str], dataset: Path, pull_secrets: Sequence[str] = ()
) -> list[Path]:
    """Write the chart's values and the CPU sample with these images and pull Secrets; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        VALUES_FILE: chart_values(images, pull_secrets),
        f"{SAMPLE}.yaml": with_images(load_sample(SAMPLE), images, dataset_file_name(dataset), pull_secrets),
    }
    for name, document in documents.items():
        text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in documents]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("registry", help="prefix of the pushed images, for example registry.example/team")
    parser.add_argument(
        "--dataset",
        type=Path,
        default=SAMPLE_DATASET,
        help="CSV file of the dataset image (default: the sample data)",
    )
    parser.add_argument(
        "--also", choices=OPTIONAL, action="append", default=[], help="push this image too; few resources need it"
    )
    parser.add_argument("--engine", choices=ENGINES, help="default: the first one that is usable")
    parser.add_argument(
        "--pull-secret",
        action="append",
        default=[],
        help="a Secret of the cluster with which the nodes pull; the files name it",
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="folder for the values and the sample (default: build/push)"
    )


def main(options: argparse.Namespace, settings: Settings, progress: Progress) -> int:
    """Run the command `push`. Returns 0 when the registry has every image."""
    registry_prefix(options.registry)  # before the images are built
    engine = choose_engine(options.engine, os.geteuid() == 0, is_usable)
    built = build_images(settings, progress, (*REQUIRED, *options.also), options.dataset, engine)
    images = {part: reference for part, reference in built.items() if part not in PARENTS}
    pushed = push_images(settings, progress, images, options.registry, engine)
    values, sample = write_files(options.output, pushed, options.dataset, options.pull_secret)
    print(
        f"The images are in {options.registry}. On your cluster:\n\n"
        f"  helm install toxicity-operator helm/toxicity-operator -n toxicity-system --create-namespace -f {values}\n"
        f"  kubectl apply -f {sample}\n"
    )
    return 0
