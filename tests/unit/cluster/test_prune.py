"""Pruning removes what this checkout does not use, independent of its age, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from toxicity_cluster import containerd, prune
from toxicity_cluster.build import OPTIONAL_PROGRAMS, PROGRAMS, program_folder
from toxicity_cluster.environments import PARTS, base_model_folder, environment_folder
from toxicity_cluster.node_image import node_image_name
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_cluster.toolchain import toolchain_version

SOURCES = Path(__file__).resolve().parents[3] / "cluster"
OLD = (
    "environments/serving-0123456789ab",
    "environments/toxicity-base-model-0123456789ab",
    "bin/helm-0123456789ab",
)

LOAD = """
import sys
from pathlib import Path
from toxicity_cluster.containerd import empty_layout
from toxicity_cluster.settings import Settings

with empty_layout(Settings(cache=Path(sys.argv[1]), state=Path("state"), sources=Path("."))) as layout:
    (layout / "blob").write_text("x")
    print("loading", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", state=tmp_path / "state", sources=SOURCES)


def fill(settings: Settings) -> tuple[set[Path], set[Path]]:
    """Folders of this checkout, of another one and of experiments: those to keep, and those to remove."""
    version = toolchain_version()
    kept = {environment_folder(settings, part) for part in PARTS}
    kept |= {program_folder(settings, program, version) for program in (*PROGRAMS, *OPTIONAL_PROGRAMS)}
    kept |= {settings.cache / "runs" / "quality"}
    kept |= {
        base_model_folder(settings, reference)
        for reference in prune.current_references(settings)
        if "base-model" in reference
    }
    lost = {settings.cache / name for name in OLD}
    for folder in kept | lost:
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    return kept, lost


def free(monkeypatch: pytest.MonkeyPatch, *answers: int) -> None:
    found = iter(answers)
    monkeypatch.setattr(prune, "free_bytes", lambda _: next(found))


def test_what_this_checkout_uses_stays_and_what_others_left_goes(settings: Settings) -> None:
    kept, lost = fill(settings)
    (settings.cache / "gobuild").mkdir()
    prune.prune(settings, Progress())
    assert [folder for folder in kept if not (folder / "file").exists()] == []
    assert [folder for folder in lost if folder.exists()] == []
    assert not (settings.cache / "gobuild").exists()


def test_images_of_a_second_node_stay_while_the_node_exists(settings: Settings) -> None:
    node = settings.second_node
    for folder in (settings.containerd_root, node.containerd_root, node.state):
        folder.mkdir(parents=True)
    prune.prune(settings, Progress())
    assert node.containerd_root.exists()
    node.state.rmdir()
    prune.prune(settings, Progress())
    assert not node.containerd_root.exists() and settings.containerd_root.exists()


def test_with_room_enough_nothing_is_removed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, lost = fill(settings)
    free(monkeypatch, prune.MIN_FREE_DISK_BYTES)
    prune.make_room(settings, Progress())
    assert [folder for folder in kept | lost if not folder.exists()] == []


def test_making_room_stops_as_soon_as_there_is_enough(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(settings)
    free(monkeypatch, 0, 0, 0, 0, 0, prune.MIN_FREE_DISK_BYTES, prune.MIN_FREE_DISK_BYTES)
    prune.make_room(settings, Progress())
    assert [(settings.cache / name).exists() for name in OLD] == [False, False, True]


def test_only_images_of_this_project_are_ever_unused() -> None:
    ours, current = "localhost/toxicity-serving:old", "localhost/toxicity-serving:new"
    others = ["docker.io/library/python:3.11", "localhost/toxic:1", "localhost/other:old"]
    assert prune.unused_images([ours, current, *others], {current}) == [ours]


def test_image_of_the_pause_container_is_never_unused() -> None:
    assert prune.unused_images([node_image_name(b"pause")], {"localhost/toxicity-serving:new"}) == []


def test_links_of_a_load_that_was_killed_are_removed_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, lost = fill(settings)
    with subprocess.Popen(
        [sys.executable, "-c", LOAD, str(settings.cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as loader:
        assert loader.stdout is not None and loader.stdout.readline() == b"loading\n"
        assert not containerd.remove_unfinished_load(settings)  # it still runs
        loader.kill()
    left = settings.cache / containerd.LAYOUT / "blob"
    assert left.exists()
    free(monkeypatch, 0, 0, prune.MIN_FREE_DISK_BYTES, prune.MIN_FREE_DISK_BYTES)
    prune.make_room(settings, Progress())
    assert not left.exists()
    assert [folder for folder in kept | lost if not folder.exists()] == []


def test_a_cache_that_does_not_exist_yet_has_nothing_to_remove(settings: Settings) -> None:
    prune.prune(settings, Progress())
    assert not settings.cache.exists()
