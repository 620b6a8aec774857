"""Checkpoints of a training in the store, so that it resumes on another node.

Each checkpoint is an artifact `<stage>.checkpoints/checkpoint-<step>`, which another attempt sees only when it is
complete. The newest KEPT are retained, since a pod may be reading the older one.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toxicity_store.artifacts import CHECKPOINTS, BucketStore
from toxicity_store.errors import ArtifactDamaged, ArtifactMissing, StoreError

KEPT = 2
SCAN_SECONDS = 5.0
_NAME = re.compile(r"checkpoint-(\d+)")

logger = logging.getLogger(__name__)


def checkpoints_name(stage: str) -> str:
    """The name below which the checkpoints of a stage's folder are kept."""
    return f"{stage}{CHECKPOINTS}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint's folder; None for other names."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def stored_steps(store: BucketStore, stage: str) -> list[int]:
    """The steps of the complete checkpoints, newest first. Raises StoreError."""
    parent = checkpoints_name(stage)
    steps = [step for name in store.client.list_names(parent) if (step := step_of(name)) is not None]
    return [
        step for step in sorted(steps, reverse=True) if store.manifest(f"{parent}/checkpoint-{step}") is not None
    ]


def restore(store: BucketStore, stage: str, folder: Path) -> int | None:
    """Downloads the newest usable checkpoint into `folder`; returns its step, or None. Raises StoreError."""
    for step in stored_steps(store, stage):
        try:
            store.fetch_as(f"{checkpoints_name(stage)}/checkpoint-{step}", folder / f"checkpoint-{step}")
        except (ArtifactDamaged, ArtifactMissing) as error:  # another attempt can remove it meanwhile
            logger.warning("checkpoint_not_restored step=%d error=%s", step, error)
            shutil.rmtree(folder)
            continue
        logger.info("checkpoint_restored step=%d", step)
        return step
    return None


def save(store: BucketStore, stage: str, checkpoint: Path) -> None:
    """Uploads a checkpoint and removes all but the newest KEPT. Raises StoreError, OSError."""
    parent = checkpoints_name(stage)
    store.publish_as(f"{parent}/{checkpoint.name}", checkpoint)
    for step in stored_steps(store, stage)[KEPT:]:
        store.remove(f"{parent}/checkpoint-{step}")


def forget(store: BucketStore, stage: str) -> None:
    """Removes all checkpoints of a published stage. Raises StoreError."""
    store.remove(checkpoints_name(stage))


@contextmanager
def saving(
    store: BucketStore, stage: str, newest: Callable[[], Path | None], scan_seconds: float = SCAN_SECONDS
) -> Iterator[None]:
    """Uploads each checkpoint that `newest` returns, in a thread, while the block runs.

    A failure is only logged: the training continues, and the next checkpoint is uploaded again.
    """
    ended = threading.Event()

    def save_newest() -> None:
        saved = None
        while not ended.wait(scan_seconds):
            checkpoint = newest()
            if checkpoint is None or checkpoint == saved:
                continue
            try:
                save(store, stage, checkpoint)
            except FileNotFoundError:  # the training has removed it, since a newer one is complete
                continue
            except (StoreError, OSError) as error:
                logger.warning("checkpoint_not_saved checkpoint=%s error=%s", checkpoint.name, error)
                continue
            saved = checkpoint
            logger.info("checkpoint_saved checkpoint=%s", checkpoint.name)

    thread = threading.Thread(target=save_newest, name="save-checkpoints", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
