"""Images stay below the sizes that docs/how-to/images.md states."""

from __future__ import annotations

import json

import pytest

from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.images_parts import PARTS
from toxicity_cluster.settings import Settings

pytestmark = pytest.mark.e2e

MEGABYTES = {"B": 1e-6, "KB": 1e-3, "MB": 1.0, "GB": 1e3}


def megabytes(settings: Settings, reference: str) -> float:
    """The unpacked size of an image in the store of the builds, from buildah's `1.78 GB`."""
    number, unit = run([*buildah(settings), "images", "--format", "{{.Size}}", reference]).split()[:2]
    return float(number) * MEGABYTES[unit]


def test_images_are_no_larger_than_documented(cluster: Installation, machine: Settings) -> None:
    built = json.loads((machine.cache / "images.json").read_text())
    parts = [part for part in PARTS if part.name in cluster.images]
    assert len(parts) >= 7
    sizes = {part.name: megabytes(machine, built[part.name]) for part in parts}
    assert {part.name: sizes[part.name] for part in parts if sizes[part.name] > part.limit_mb} == {}
