"""Pruning the store of the builds, with the real buildah."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_cluster import prune
from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah
from toxicity_cluster.errors import CommandFailed
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

pytestmark = pytest.mark.api


def build(settings: Settings, context: Path, name: str, *steps: str) -> None:
    context.mkdir(exist_ok=True)
    (context / "file").write_text("x")
    (context / "Dockerfile").write_text("\n".join(("FROM scratch", *steps, "")))
    command = [*buildah(settings), "build", "--layers", "--force-rm", "--quiet", "--tag", name, str(context)]
    run(command, environment={"BUILDAH_ISOLATION": "chroot"})


def stored(settings: Settings) -> list[str]:
    """All images, those of single steps as `<none>`."""
    return sorted(run([*buildah(settings), "images", "--all", "--format", "{{.Name}}"]).split())


def test_steps_of_a_build_that_failed_are_removed_and_those_of_present_images_stay(tmp_path: Path) -> None:
    sources = Settings.from_environment().sources
    settings = Settings(tmp_path / "cache", tmp_path / "state", sources)
    context = tmp_path / "context"
    build(settings, context, "other.example/kept:1", "COPY file /1", "COPY file /2")
    build(settings, context, "localhost/toxicity-serving:0123456789ab", "COPY file /3")
    present = ["<none>", "other.example/kept"]
    with pytest.raises(CommandFailed, match="missing"):
        build(settings, context, "localhost/toxicity-training:0123456789ab", "COPY file /4", "COPY missing /5")
    assert stored(settings) == ["<none>", *present[:1], "localhost/toxicity-serving", *present[1:]]
    prune.prune(settings, Progress())
    assert stored(settings) == present
