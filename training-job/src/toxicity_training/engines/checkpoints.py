"""Checkpoints from which a training resumes after its pod was killed: `checkpoint-<step>` beside the stage's folder.

A checkpoint is complete once it is marked, after all its files are on disk. One without the mark was being written when
the pod died, and is removed.

Each attempt writes to a separate folder. It starts with a copy of the newest checkpoint of all attempts, some of which
may still be training, so that no attempt writes or removes a checkpoint that another one resumes from.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from toxicity_api.attempts import attempt_tag, is_abandoned, keep_alive
from toxicity_stage.artifacts import CHECKPOINT_MARK, checkpoints_of
from toxicity_stage.ranks import leader

PREFIX = "checkpoint-"
PART = "part"
"""Suffix and name of an incomplete copy."""
COPY_TRIES = 3
KEPT = 2
"""One more than needed: the older checkpoint stays complete while the newer one is written."""


def checkpoints_folder(output_dir: Path) -> Path:
    """The folder of this attempt's checkpoints, beside the stage's `output_dir`."""
    return checkpoints_of(output_dir, attempt_tag(leader(os.environ)))


def open_checkpoints(output_dir: Path) -> Path:
    """Creates this attempt's folder with the newest complete checkpoint of all attempts; removes abandoned folders."""
    own = checkpoints_folder(output_dir)
    own.mkdir(parents=True, exist_ok=True)
    keep_alive(own)
    for _ in range(COPY_TRIES):
        newest = sorted((found for folder in _folders(output_dir) for found in _whole(folder)), reverse=True)
        if not newest or any(folder.parent == own or _copied(folder, own) for _, folder in newest):
            break
    _remove_abandoned(output_dir, own)
    return own


def remove_checkpoints(output_dir: Path) -> None:
    """Removes this attempt's checkpoints and abandoned ones after the stage is published."""
    own = checkpoints_folder(output_dir)
    _remove_abandoned(output_dir, own)
    shutil.rmtree(own, ignore_errors=True)


def _folders(output_dir: Path) -> Iterator[Path]:
    """The checkpoint folders of all attempts; an earlier release used one folder without a suffix."""
    for suffix in (".checkpoints", ".checkpoints-*"):
        yield from output_dir.parent.glob(f"{output_dir.name}{suffix}")


def _remove_abandoned(output_dir: Path, own: Path) -> None:
    os.utime(own)
    now = own.stat().st_mtime
    for folder in _folders(output_dir):
        tag = folder.name.removeprefix(f"{output_dir.name}.checkpoints").removeprefix("-")
        if folder != own and is_abandoned(folder, tag, leader(os.environ), now):
            shutil.rmtree(folder, ignore_errors=True)


def _copied(checkpoint: Path, own: Path) -> bool:
    """Copies another attempt's checkpoint to `own`; False if that attempt removed it meanwhile."""
    part = own / PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        files = json.loads((checkpoint / CHECKPOINT_MARK).read_text(encoding="utf-8") or "[]")
        shutil.copytree(checkpoint, part, ignore=shutil.ignore_patterns(CHECKPOINT_MARK))
    except (FileNotFoundError, shutil.Error):
        return False
    if not all((part / name).is_file() for name in files):
        return False
    target = own / checkpoint.name
    shutil.rmtree(target, ignore_errors=True)
    os.rename(part, target)
    mark_complete(target)
    return True


def checkpoint_folder(root: Path, step: int) -> Path:
    return root / f"{PREFIX}{step}"


def mark_complete(folder: Path) -> None:
    """Flushes the checkpoint's files to disk, then marks it as complete; the mark lists its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _flush(path)
    names = [path.relative_to(folder).as_posix() for path in files]
    unfinished = folder / f"{CHECKPOINT_MARK}.{PART}"
    unfinished.write_text(json.dumps(names), encoding="utf-8")
    os.replace(unfinished, folder / CHECKPOINT_MARK)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_checkpoint(root: Path) -> Path | None:
    """The newest complete checkpoint in an attempt's folder, or None; incomplete ones are removed."""
    for folder in root.glob(f"{PREFIX}*"):
        if not (folder / CHECKPOINT_MARK).exists():
            shutil.rmtree(folder, ignore_errors=True)  # several processes may remove it
    return max(_whole(root))[1] if _whole(root) else None


def _whole(root: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each complete checkpoint."""
    folders = [folder for folder in root.glob(f"{PREFIX}*") if (folder / CHECKPOINT_MARK).exists()]
    return [(int(folder.name.removeprefix(PREFIX)), folder) for folder in folders]


def remove_older(root: Path) -> None:
    """Removes all but the newest KEPT checkpoints."""
    folders = sorted(root.glob(f"{PREFIX}*"), key=lambda path: int(path.name.removeprefix(PREFIX)))
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder)
