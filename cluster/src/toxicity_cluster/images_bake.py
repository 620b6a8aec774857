"""docker-bake.json, for `docker buildx bake`: the images of `images_parts` with the same arguments and labels.

`python -m toxicity_cluster bake --write` writes the file, and `--check` fails when it is stale. It lacks `base`, which
a public Python image replaces, and `dataset`, which contains a file of the person who builds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toxicity_cluster.images_base import TORCH_CPU_INDEX
from toxicity_cluster.images_parts import NAME_PREFIX, PARENTS, PARTS, Part
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

FILE = "docker-bake.json"
LOCAL = frozenset({"base", "dataset"})
"""Images that only `python -m toxicity_cluster images` builds."""

PUBLIC_PYTHON = "docker.io/library/python:3.11-slim-bookworm"
LABEL = "org.opencontainers.image"
VARIABLES = {
    "REGISTRY": NAME_PREFIX.partition("/")[0],
    "VERSION": "dev",
    "SOURCE": "",
    "REVISION": "",
    "PYTHON_IMAGE": PUBLIC_PYTHON,
    "TORCH_SOURCE": TORCH_CPU_INDEX,
    "ENGINE": "cpu",
}
"""Variables of the file with their defaults. The environment replaces them."""


def image_labels(part: Part, version: str, source: str, revision: str) -> dict[str, str]:
    """The OCI labels of an image. `source` is the URL of the repository and `revision` its commit."""
    return {
        f"{LABEL}.title": f"toxicity-{part.name}",
        f"{LABEL}.description": part.description,
        f"{LABEL}.licenses": part.licenses,
        f"{LABEL}.version": version,
        f"{LABEL}.source": source,
        f"{LABEL}.revision": revision,
    }


def labels_of_build(part: Part, environment: Mapping[str, str]) -> dict[str, str]:
    """The labels of a build by this program, without those that the environment (SOURCE, REVISION) leaves empty."""
    version = importlib.metadata.version("toxicity-cluster")
    labels = image_labels(part, version, environment.get("SOURCE", ""), environment.get("REVISION", ""))
    return {name: value for name, value in labels.items() if value}


def bake_document() -> dict[str, Any]:
    """The content of the file."""
    targets = [part for part in PARTS if part.name not in LOCAL]
    groups = {
        "default": [part.name for part in targets if part.name not in PARENTS and not part.optional],
        "all": [part.name for part in targets if part.name not in PARENTS],
    }
    return {
        "variable": {name: {"default": value} for name, value in VARIABLES.items()},
        "group": {name: {"targets": members} for name, members in groups.items()},
        "target": {part.name: _target(part) for part in targets},
    }


def _target(part: Part) -> dict[str, Any]:
    """A parent that the file builds is a named context, which replaces an image of that name in `FROM`."""
    parents = {name: parent for name, parent in part.parents.items() if parent not in LOCAL}
    arguments = {name: "${PYTHON_IMAGE}" for name, parent in part.parents.items() if parent == "base"} | parents
    if part.name == "torch":
        arguments["TORCH_SOURCE"] = "${TORCH_SOURCE}"
    if part.name == "serving":
        arguments["ENGINE"] = "${ENGINE}"
    return {
        "context": ".",
        "dockerfile": part.dockerfile,
        "contexts": {parent: f"target:{parent}" for parent in parents.values()},
        "args": arguments,
        "labels": image_labels(part, "${VERSION}", "${SOURCE}", "${REVISION}"),
        "tags": ["${REGISTRY}/toxicity-" + part.name + ":${VERSION}"],
    }


def bake_text() -> str:
    return json.dumps(bake_document(), indent=2) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE", help="file to write")
    action.add_argument("--check", type=Path, metavar="FILE", help="file that must be up to date")


def main(options: argparse.Namespace, _settings: Settings, _progress: Progress) -> int:
    """Run the command `bake`. Returns 1 if a checked file is stale."""
    if options.write:
        options.write.write_text(bake_text(), encoding="utf-8")
        return 0
    file: Path = options.check
    if file.is_file() and file.read_text(encoding="utf-8") == bake_text():
        return 0
    print(f"{file} is stale: run `make generate`", file=sys.stderr)
    return 1
