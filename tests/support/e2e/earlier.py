"""An earlier version of the project, from the history of the checkout: its sources and its operator's image.

Both are kept in the cache, by commit and by content, so that they are made once.
"""

from __future__ import annotations

import dataclasses
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from toxicity_cluster.containerd import load
from toxicity_cluster.demo_install import ROOT
from toxicity_cluster.images import build_images, list_references, plan_recipes
from toxicity_cluster.images_base import CPU_INDEX
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings


def sources_of(commit: str, settings: Settings) -> Path:
    """A folder with the files of `commit`, a full hash; the test fails when the history lacks it."""
    folder = settings.cache / "earlier" / commit
    if folder.is_dir():
        return folder
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        said = archive.stderr.decode(errors="replace").strip()
        pytest.fail(f"{ROOT} has no commit {commit} ({said}): fetch the whole history (git fetch --unshallow)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{commit}-", dir=folder.parent) as scratch:
        packed, unpacked = Path(scratch, "sources.tar"), Path(scratch, "sources")
        packed.write_bytes(archive.stdout)
        with tarfile.open(packed) as tar:
            tar.extractall(unpacked, filter="data")
        unpacked.rename(folder)
    return folder


def operator_of(sources: Path, settings: Settings) -> str:
    """Builds the operator's image from these sources, unless the store has it, and brings it to the node."""
    (recipe,) = [
        recipe
        for recipe in plan_recipes(sources, ["operator"], ROOT / "unused", CPU_INDEX, "buildah")
        if recipe.part.name == "operator"
    ]
    if recipe.reference not in list_references(settings, "buildah"):
        earlier = dataclasses.replace(settings, sources=sources / "cluster")
        build_images(earlier, Progress(), ["operator"])
        build_images(settings, Progress(), ["operator"])  # so that the images on record are this checkout's again
    load(settings, recipe.reference)
    return recipe.reference
