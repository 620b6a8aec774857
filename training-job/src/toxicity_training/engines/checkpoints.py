"""Where a training goes on after its pod was killed: folders `checkpoint-<step>` beside the stage's own.

A checkpoint counts once it is marked, which happens after all of its files are on disk; one without the mark was
being written when the pod died, and is removed.

Each attempt writes a folder of its own. It begins with a copy of the newest checkpoint of the others, which may still
be training: nobody writes or removes what another attempt goes on from.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from toxicity_api.attempts import attempt_tag, is_abandoned, keep_alive
from toxicity_stage.ranks import leader

PREFIX = "checkpoint-"
MARK = "complete"
PART = "part"
"""Of a copy that is not whole."""
COPY_TRIES = 3
KEPT = 2
"""One more than needed: the older one is still whole while the newer one is written."""


def checkpoints_folder(output_dir: Path) -> Path:
    """This attempt's folder of the checkpoints of the stage that publishes `output_dir`."""
    return output_dir.with_name(f"{output_dir.name}.checkpoints-{attempt_tag(leader(os.environ))}")


def open_checkpoints(output_dir: Path) -> Path:
    """Makes this attempt's folder, with the newest whole checkpoint of all attempts; abandoned ones are removed."""
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
    """Removes this attempt's checkpoints and abandoned ones, once the stage is published."""
    own = checkpoints_folder(output_dir)
    _remove_abandoned(output_dir, own)
    shutil.rmtree(own, ignore_errors=True)


def _folders(output_dir: Path) -> Iterator[Path]:
    """The folders of all attempts at the stage; an earlier release had one without a name for all of them."""
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
    """Copies another attempt's checkpoint into `own`; False when that attempt has removed it meanwhile."""
    part = own / PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        files = json.loads((checkpoint / MARK).read_text(encoding="utf-8") or "[]")
        shutil.copytree(checkpoint, part, ignore=shutil.ignore_patterns(MARK))
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
    """Makes the checkpoint count, once what it consists of is on disk; the mark names its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _flush(path)
    names = [path.relative_to(folder).as_posix() for path in files]
    unfinished = folder / f"{MARK}.{PART}"
    unfinished.write_text(json.dumps(names), encoding="utf-8")
    os.replace(unfinished, folder / MARK)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_checkpoint(root: Path) -> Path | None:
    """The newest whole checkpoint in an attempt's own folder, None without one; what is not whole is removed."""
    for folder in root.glob(f"{PREFIX}*"):
        if not (folder / MARK).exists():
            shutil.rmtree(folder, ignore_errors=True)  # of several processes each removes it
    return max(_whole(root))[1] if _whole(root) else None


def _whole(root: Path) -> list[tuple[int, Path]]:
    """Step and folder of each whole checkpoint."""
    folders = [folder for folder in root.glob(f"{PREFIX}*") if (folder / MARK).exists()]
    return [(int(folder.name.removeprefix(PREFIX)), folder) for folder in folders]


def remove_older(root: Path) -> None:
    """Removes all but the newest KEPT checkpoints."""
    folders = sorted(root.glob(f"{PREFIX}*"), key=lambda path: int(path.name.removeprefix(PREFIX)))
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder)
