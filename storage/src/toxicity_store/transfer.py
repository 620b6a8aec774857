"""Transfers of files between a folder and the store: parallel, verified, with progress in the log.

A large file is read in ranges, each of which is retried separately. A file that an interrupted download left is used
if its checksum is right, and so is one in the cache on the node.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from toxicity_store.cache import FileCache
from toxicity_store.client import PART_BYTES, Client
from toxicity_store.errors import NO_SPACE, ArtifactDamaged, ScratchFull
from toxicity_store.manifest import StoredFile, describe_file, file_key

READERS = 8
WRITERS = 2
"""Files that are uploaded at the same time. Each uploads four parts at once, which are in memory."""

FETCHED = "fetched name=%s store_bytes=%d cache_bytes=%d seconds=%.3f"
PUBLISHED = "uploaded name=%s store_bytes=%d seconds=%.3f"
"""Log messages for an artifact: what came from the store and from the cache on the node, and what was uploaded."""

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Progress:
    """Logs each tenth of the bytes. Used by several threads."""

    def __init__(self, doing: str, total: int) -> None:
        self._doing, self._total = doing, total
        self._done = self._logged = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            tenths = 10 * self._done // max(1, self._total)
            if tenths == self._logged:
                return
            self._logged = tenths
        logger.info("%s: %d of %d MB", self._doing, self._done // 1_000_000, self._total // 1_000_000)


def upload(client: Client, folder: Path, name: str, attempt: str) -> dict[str, StoredFile]:
    """Uploads all files of `folder`; returns their sizes and checksums.

    Raises StoreError, OSError; FileNotFoundError also if files were removed meanwhile, so that the rest is never
    published as if it were whole.
    """
    began, paths = time.monotonic(), _files(folder)
    progress = Progress(f"uploading {name}", sum(path.stat().st_size for path in paths))

    def send(path: Path) -> tuple[str, StoredFile]:
        relative, described = path.relative_to(folder).as_posix(), describe_file(path)
        with path.open("rb") as file:
            client.write(file_key(name, attempt, relative), file, described.size)
        progress.add(described.size)
        return relative, described

    sent = dict(_in_parallel(send, paths, WRITERS))
    if not paths or _files(folder) != paths:
        raise FileNotFoundError(errno.ENOENT, "files were removed during the upload", str(folder))
    logger.info(PUBLISHED, name, _size(sent), time.monotonic() - began)
    return sent


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def download(
    client: Client,
    name: str,
    attempt: str,
    files: Mapping[str, StoredFile],
    folder: Path,
    cache: FileCache | None = None,
) -> None:
    """Copies files from the cache into `folder`, downloads the others, and verifies all. Raises StoreError, OSError."""
    began = time.monotonic()
    missing = {path: file for path, file in files.items() if not _is_there(folder / path, file)}
    total = _size(missing)
    _require_space(folder, name, total)
    try:
        for path in missing:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        due = _without_cached(cache, missing, folder) if cache else missing
        _receive(client, name, attempt, due, folder)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise _full(folder, name, total) from error
        raise
    downloaded = _size(due)
    logger.info(FETCHED, name, downloaded, total - downloaded, time.monotonic() - began)
    if cache:
        cache.add(folder, files)


def _size(files: Mapping[str, StoredFile]) -> int:
    return sum(file.size for file in files.values())


def _without_cached(cache: FileCache, files: Mapping[str, StoredFile], folder: Path) -> dict[str, StoredFile]:
    """The files that the cache did not have. It has copied the others into `folder`."""

    def is_copied(path: str) -> bool:
        return cache.copy_to(folder / path, files[path])

    copied = _in_parallel(is_copied, files, os.cpu_count() or 1)
    return {path: file for (path, file), done in zip(files.items(), copied, strict=True) if not done}


def _receive(client: Client, name: str, attempt: str, due: Mapping[str, StoredFile], folder: Path) -> None:
    """Downloads files into folders that exist, and verifies them. Raises StoreError, OSError."""
    progress = Progress(f"downloading {name}", _size(due))
    ranges = [(path, start) for path, file in due.items() for start in range(0, file.size, PART_BYTES)]

    def receive(part: tuple[str, int]) -> None:
        path, start = part
        key, length = file_key(name, attempt, path), min(PART_BYTES, due[path].size - start)
        content = client.read_range(key, start, length)
        if content is None or len(content) != length:
            raise _damaged(client, name, path, "is missing or shorter than its manifest says")
        with (folder / path).open("r+b") as file:
            file.seek(start)
            file.write(content)
        progress.add(length)

    for path in due:
        (folder / path).write_bytes(b"")  # an interrupted copy can be longer
    _in_parallel(receive, ranges, READERS)

    def verify(path: str) -> None:
        if describe_file(folder / path) != due[path]:
            (folder / path).unlink()
            raise _damaged(client, name, path, "differs from the checksum in its manifest")

    _in_parallel(verify, due, os.cpu_count() or 1)


def _in_parallel(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """The results in order. The first error ends the work: items that have not started are dropped."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def _is_there(path: Path, file: StoredFile) -> bool:
    try:
        return path.stat().st_size == file.size and describe_file(path) == file
    except FileNotFoundError:
        return False


def _require_space(folder: Path, name: str, total: int) -> None:
    if total > shutil.disk_usage(folder).free:
        raise _full(folder, name, total)


def _full(folder: Path, name: str, total: int) -> ScratchFull:
    free = shutil.disk_usage(folder).free
    return ScratchFull(
        "ScratchFull",
        f"spec.storage.scratch.size: {folder.parent} has {free // 1_000_000} MB free, but {name} needs"
        f" {total // 1_000_000} MB; raise spec.storage.scratch.size",
    )


def _damaged(client: Client, name: str, path: str, what: str) -> ArtifactDamaged:
    return ArtifactDamaged("ArtifactDamaged", f"{client.spec.url}/{name}: {path} {what}; {run_again(name)}")


RUN_IDS = {"train": "training", "quantize": "quantization", "evaluate": "evaluation", "loadtest": "loadTest"}


def run_again(name: str) -> str:
    """What to do about a lost artifact: the field that makes its stage run again."""
    section = RUN_IDS.get(name.partition("-")[0])
    return f"change spec.{section}.runId to make it again" if section else "make it again"
