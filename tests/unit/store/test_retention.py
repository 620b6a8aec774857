"""Old results leave an object store as they leave a volume; what others keep below the same prefix stays."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.store.artifacts import make_folder
from support.store.server import S3Server
from toxicity_api.stage_config import Retention
from toxicity_stage.retention import measure_artifacts, remove_old_artifacts
from toxicity_store.artifacts import BucketStore
from toxicity_store.checkpoints import save

Publish = Callable[[str, str], int]


@pytest.fixture
def publish(store: BucketStore, tmp_path: Path) -> Publish:
    """Publishes an artifact of an owner; its size in bytes."""

    def make(owner: str, name: str) -> int:
        folder = make_folder(tmp_path / owner / name, seed=len(name), large=100 * len(owner))
        assert dataclasses.replace(store, owner=owner).publish(folder)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    return make


def artifacts(server: S3Server) -> set[str]:
    return {path.rpartition("/")[0] for path in server.files() if path.endswith("/manifest.json")}


def test_old_results_go_and_the_kept_and_newest_stay(
    store: BucketStore, server: S3Server, publish: Publish
) -> None:
    for age, name in enumerate(("base-model-a", "quantize-a", "train-c", "train-b", "train-a")):
        publish("mine", name)
        os.utime(server.bucket / "team" / name / "manifest.json", (1e9 - age, 1e9 - age))
    removed = remove_old_artifacts(
        dataclasses.replace(store, owner="mine"), Retention(keep=["train-a", "train-d"], versions=3)
    )
    assert sorted(removed) == ["base-model-a", "train-b"]
    assert artifacts(server) == {"train-a", "train-c", "quantize-a"}
    assert not [path for path in server.files() if path.startswith(("train-b", "base-model-a"))]


def test_artifacts_of_others_are_neither_removed_nor_measured(
    store: BucketStore, server: S3Server, publish: Publish
) -> None:
    sizes = {name: publish("mine", name) for name in ("train-a", "evaluate-a")}
    for owner, name in (("another", "train-b"), ("", "train-c")):
        publish(owner, name)
    (server.bucket / "team" / "train-d" / "attempt").mkdir(parents=True)
    (server.bucket / "team" / "train-d" / "attempt" / "unfinished").write_bytes(b"x")
    (server.bucket / "team" / "notes.txt").write_bytes(b"x")
    before = server.files()
    for owner in ("mine", ""):
        store_of_owner = dataclasses.replace(store, owner=owner)
        assert remove_old_artifacts(store_of_owner, Retention(keep=["train-a"], versions=1)) == []
    assert server.files() == before

    figures = measure_artifacts(dataclasses.replace(store, owner="mine"))
    assert {folder.name: folder.size_bytes for folder in figures.folders} == sizes
    assert (figures.used_bytes, figures.free_bytes) == (sum(sizes.values()), None)


def test_checkpoints_go_with_their_training_and_count_as_its_space(
    store: BucketStore, server: S3Server, tmp_path: Path
) -> None:
    mine = dataclasses.replace(store, owner="mine")
    for stage, step in (("train-a", 5), ("train-a", 10), ("train-b", 15)):
        save(mine, stage, make_folder(tmp_path / stage / f"checkpoint-{step}", seed=step, large=10 * step))
    sizes = {folder.name: folder.size_bytes for folder in measure_artifacts(mine).folders}
    assert sizes.keys() == {"train-a", "train-b"} and sizes["train-a"] > sizes["train-b"] > 150
    removed = remove_old_artifacts(mine, Retention(keep=["train-b"], versions=1))
    assert sorted(removed) == ["train-a.checkpoints/checkpoint-10", "train-a.checkpoints/checkpoint-5"]
    assert artifacts(server) == {"train-b.checkpoints/checkpoint-15"}
