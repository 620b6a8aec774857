"""Where a training goes on after its pod was killed: folders `checkpoint-<step>` beside the stage's own.

A checkpoint counts once it is marked, which happens after all of its files are on disk; one without the mark was
being written when the pod died, and is removed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PREFIX = "checkpoint-"
MARK = "complete"
KEPT = 2
"""One more than needed: the older one is still whole while the newer one is written."""


def checkpoints_folder(output_dir: Path) -> Path:
    """The folder of the checkpoints of the stage that publishes `output_dir`."""
    return output_dir.with_name(f"{output_dir.name}.checkpoints")


def checkpoint_folder(root: Path, step: int) -> Path:
    return root / f"{PREFIX}{step}"


def mark_complete(folder: Path) -> None:
    """Makes the checkpoint count, once what it consists of is on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _flush(path)
    (folder / MARK).touch()
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_checkpoint(root: Path) -> Path | None:
    """The newest whole checkpoint below `root`, None without one; those that are not whole are removed."""
    whole: list[tuple[int, Path]] = []
    for folder in root.glob(f"{PREFIX}*"):
        if (folder / MARK).exists():
            whole.append((int(folder.name.removeprefix(PREFIX)), folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)  # of several processes each removes it
    return max(whole)[1] if whole else None


def remove_older(root: Path) -> None:
    """Removes all but the newest KEPT checkpoints."""
    folders = sorted(root.glob(f"{PREFIX}*"), key=lambda path: int(path.name.removeprefix(PREFIX)))
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder)
