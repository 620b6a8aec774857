"""Removes old results from the artifact volume before a stage adds its own, and measures the volume after it.

The operator names the folders that must stay, since it knows what is served and what a roll-back would restore. A
folder is renamed before it is removed, so a result is complete or absent. The new name is that of an abandoned attempt,
which the next stage removes if this one is stopped meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from toxicity_api.attempts import attempt_tag
from toxicity_api.results import MAX_FOLDERS, FolderSize, StorageFigures
from toxicity_api.stage_config import Retention

RESULTS = ("train", "quantize", "evaluate", "loadtest")
"""Folders of which `versions` stay. Downloads are kept only while the spec requests them, and can be repeated."""

DOWNLOADS = ("dataset", "base-model")

BLOCK_BYTES = 512
"""Unit of st_blocks."""

_MEASURED = re.compile(rf"(?P<result>(?:{'|'.join((*RESULTS, *DOWNLOADS))})-[0-9a-f]+)(?:\.|$)")
_FOLDER = re.compile(r"(?P<result>(?P<kind>[a-z]+(?:-model)?)-[0-9a-f]+)(?:\.checkpoints.*)?")


def remove_old(volume: Path, retention: Retention) -> list[str]:
    """Remove results beyond the number to keep, with their checkpoints. Return the names of the removed folders."""
    return [folder.name for folder in _old(volume, retention) if _remove(folder)]


def measure(volume: Path) -> StorageFigures:
    """Measure the disk space of the model's folders, each with its checkpoints and unfinished attempts."""
    sizes: dict[str, int] = {}
    for folder in volume.iterdir():
        match = _MEASURED.match(folder.name)
        if match is not None:
            sizes[match["result"]] = sizes.get(match["result"], 0) + _disk_space(folder)
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:MAX_FOLDERS]
    return StorageFigures(
        used_bytes=sum(sizes.values()),
        free_bytes=shutil.disk_usage(volume).free,
        folders=[FolderSize(name=name, size_bytes=sizes[name]) for name in largest],
    )


def _disk_space(folder: Path) -> int:
    """The disk space of all files below the folder, in bytes. Files that disappear meanwhile are left out."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_blocks * BLOCK_BYTES
    return total


def _old(volume: Path, retention: Retention) -> Iterator[Path]:
    """The folders to remove: of each kind all but those to keep and the newest others up to `versions`."""
    folders = [(match, folder) for folder in volume.iterdir() if (match := _FOLDER.fullmatch(folder.name))]
    for kind in (*RESULTS, *DOWNLOADS):
        kept = {name for name in retention.keep if name.startswith(f"{kind}-")}
        own = [(match["result"], folder) for match, folder in folders if match["kind"] == kind]
        others = [(name, folder) for name, folder in own if name not in kept]
        room = max(0, retention.versions - len(kept)) if kind in RESULTS else 0
        newest = _newest(others)[:room]
        yield from (folder for name, folder in others if name not in newest)


def _newest(folders: Iterable[tuple[str, Path]]) -> list[str]:
    """The names of results, the one that changed last first."""
    changed: dict[str, float] = {}
    for name, folder in folders:
        changed[name] = max(changed.get(name, 0.0), folder.stat().st_mtime)
    return sorted(changed, key=lambda name: changed[name], reverse=True)


def _remove(folder: Path) -> bool:
    """Remove a folder. Return False if another attempt removes it, or if the volume does not allow it."""
    name = _FOLDER.fullmatch(folder.name)
    target = folder.with_name(
        f"{name['result'] if name else folder.name}.tmp-{attempt_tag(os.getpid())}-{len(folder.name)}"
    )
    try:
        folder.rename(target)
    except OSError as error:
        print(f"retention: {folder} is not removed: {error}", flush=True)
        return False
    shutil.rmtree(target, ignore_errors=True)
    print(f"retention: {folder} is removed", flush=True)
    return True
