"""Checkpoints in an object store: the newest complete one is restored, older ones are removed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.store.server import S3Server
from toxicity_store.artifacts import BucketStore
from toxicity_store.checkpoints import forget, restore, save, saving, stored_steps

STAGE = "train-abc"
WAIT_SECONDS = 10.0


def make_checkpoint(folder: Path, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.bin").write_text(f"state {step}")
    (checkpoint / "complete").write_text('["state.bin"]')
    return checkpoint


def test_newest_complete_checkpoint_is_restored(store: BucketStore, tmp_path: Path) -> None:
    assert restore(store, STAGE, tmp_path / "b") is None
    for step in (9, 100):
        save(store, STAGE, make_checkpoint(tmp_path / "a", step))
    store.client.create(f"{STAGE}.checkpoints/checkpoint-200/dead-pod/state.bin", b"half")
    assert restore(store, STAGE, tmp_path / "b") == 100
    assert (tmp_path / "b" / "checkpoint-100" / "state.bin").read_text() == "state 100"
    assert (tmp_path / "b" / "checkpoint-100" / "complete").is_file()


def test_two_newest_checkpoints_are_kept_until_the_stage_is_published(
    store: BucketStore, server: S3Server, tmp_path: Path
) -> None:
    for step in (10, 20, 30, 40):
        save(store, STAGE, make_checkpoint(tmp_path, step))
    save(store, "train-other", make_checkpoint(tmp_path / "other", 5))
    assert stored_steps(store, STAGE) == [40, 30]
    assert {path.split("/")[1] for path in server.files() if "abc" in path} == {"checkpoint-40", "checkpoint-30"}
    forget(store, STAGE)
    assert stored_steps(store, STAGE) == []
    assert stored_steps(store, "train-other") == [5]


def test_same_step_of_two_attempts_is_kept_once(store: BucketStore, tmp_path: Path) -> None:
    for pod in ("a", "b"):
        save(store, STAGE, make_checkpoint(tmp_path / pod, 10))
    assert stored_steps(store, STAGE) == [10]


def test_a_checkpoint_that_the_training_has_removed_is_not_saved(store: BucketStore, tmp_path: Path) -> None:
    removed = make_checkpoint(tmp_path, 10)
    shutil.rmtree(removed)
    with pytest.raises(FileNotFoundError):
        save(store, STAGE, removed)
    assert stored_steps(store, STAGE) == []


def test_checkpoints_are_saved_while_the_training_runs(
    store: BucketStore, server: S3Server, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    newest: list[Path] = []
    with saving(store, STAGE, lambda: newest[-1] if newest else None, scan_seconds=0.02):
        newest.append(make_checkpoint(tmp_path, 10))
        wait_for("the first checkpoint", lambda: stored_steps(store, STAGE) == [10], WAIT_SECONDS)
        removed = make_checkpoint(tmp_path, 20)
        shutil.rmtree(removed)  # by the training, before the upload
        newest.append(removed)
        newest.append(make_checkpoint(tmp_path, 30))
        wait_for("the next checkpoint", lambda: stored_steps(store, STAGE) == [30, 10], WAIT_SECONDS)
    assert not any(thread.name == "save-checkpoints" for thread in threading.enumerate())
