"""Removes old results before a stage adds its own, and measures what the model stores after it.

The operator names the folders that must stay, since it knows what is served and what a roll-back would restore. On a
volume, a folder is renamed before it is removed, so a result is complete or absent. The new name is that of an
abandoned attempt, which the next stage removes if this one is stopped meanwhile. In an object store, only what this
resource has published is removed and measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from toxicity_api.attempts import attempt_tag
from toxicity_api.results import MAX_FOLDERS, FolderSize, StorageFigures
from toxicity_api.stage_config import Retention
from toxicity_store.artifacts import BucketStore

RESULTS = ("train", "quantize", "evaluate", "loadtest")
"""Folders of which `versions` stay. Downloads are kept only while the spec requests them, and can be repeated."""

DOWNLOADS = ("dataset", "base-model")

BLOCK_BYTES = 512
"""Unit of st_blocks."""

_MEASURED = re.compile(rf"(?P<result>(?:{'|'.join((*RESULTS, *DOWNLOADS))})-[0-9a-f]+)(?:\.|$)")
_FOLDER = re.compile(r"(?P<result>(?P<kind>[a-z]+(?:-model)?)-[0-9a-f]+)(?:\.checkpoints.*)?")


def remove_old(volume: Path, retention: Retention) -> list[str]:
    """Remove results beyond the number to keep, with their checkpoints. Return the names of the removed folders."""
    # nothing else is looked at: other attempts rename their folders meanwhile, and a foreign link may be broken
    changed = {
        folder.name: folder.stat().st_mtime for folder in volume.iterdir() if _FOLDER.fullmatch(folder.name)
    }
    return [name for name in _old(changed, retention) if _remove(volume / name)]


def remove_old_artifacts(store: BucketStore, retention: Retention) -> list[str]:
    """Remove the resource's results beyond the number to keep, with their checkpoints. Return their names.

    Raises StoreError.
    """
    changed = {name: artifact.published_at for name, artifact in store.owned().items()}
    old = _old(changed, retention)
    for name in old:
        store.remove(name)
        print(f"retention: {store.client.spec.url}/{name} is removed", flush=True)
    return old


def measure(volume: Path) -> StorageFigures:
    """Measure the disk space of the model's folders, each with its checkpoints and unfinished attempts."""
    sizes = [(folder.name, _disk_space(folder)) for folder in volume.iterdir() if _MEASURED.match(folder.name)]
    return _figures(sizes, free_bytes=shutil.disk_usage(volume).free)


def measure_artifacts(store: BucketStore) -> StorageFigures:
    """Measure what the resource has published, each result with its checkpoints. Raises StoreError."""
    return _figures([(name, artifact.size_bytes) for name, artifact in store.owned().items()], free_bytes=None)


def _figures(found: Iterable[tuple[str, int]], free_bytes: int | None) -> StorageFigures:
    sizes: dict[str, int] = {}
    for name, size in found:
        match = _MEASURED.match(name)
        if match is not None:
            sizes[match["result"]] = sizes.get(match["result"], 0) + size
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:MAX_FOLDERS]
    return StorageFigures(
        used_bytes=sum(sizes.values()),
        free_bytes=free_bytes,
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


def _old(changed: Mapping[str, float], retention: Retention) -> list[str]:
    """The folders to remove: of each kind all but those to keep and the newest others up to `versions`.

    `changed` has the time of the last change of each folder.
    """
    old: list[str] = []
    folders = [(match, name) for name in changed if (match := _FOLDER.fullmatch(name))]
    for kind in (*RESULTS, *DOWNLOADS):
        kept = {name for name in retention.keep if name.startswith(f"{kind}-")}
        own = [(match["result"], name) for match, name in folders if match["kind"] == kind]
        others = [(result, name) for result, name in own if result not in kept]
        room = max(0, retention.versions - len(kept)) if kind in RESULTS else 0
        newest = _newest((result, changed[name]) for result, name in others)[:room]
        old += (name for result, name in others if result not in newest)
    return old


def _newest(folders: Iterable[tuple[str, float]]) -> list[str]:
    """The names of results, the one that changed last first."""
    latest: dict[str, float] = {}
    for name, changed in folders:
        latest[name] = max(latest.get(name, 0.0), changed)
    return sorted(latest, key=lambda name: latest[name], reverse=True)


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
