"""The cache on a node for serving pods: a folder below a claim that all pods of the node mount.

A file is kept under its sha256, so that versions and models share equal files. The cache only saves downloads: a
failure in it is logged, and the file comes from the store. Other pods write to the folder, so each file is verified
while it is copied to the scratch space. A hard link would save the copy, but the two are different file systems, and
a pod could then change the file of all others. The kernel's copies (sendfile, copy_file_range) cannot hash.

There are no folders in the cache: another pod could replace one by a link to where this pod has its own files.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from toxicity_store.manifest import StoredFile

PREFIX = "sha256-"
UNFINISHED = ".unfinished"
CHUNK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A file of the cache."""

    path: Path
    size: int
    """bytes"""
    used_at: int
    """when a pod last read or wrote it, in nanoseconds since 1970"""


def choose_removed(entries: Sequence[Entry], needed: int, limit: int, kept: set[str]) -> list[Path] | None:
    """The least recently used files without which `needed` more bytes are within the `limit`, in bytes.

    None if the files named in `kept` leave too little room: then nothing should be removed.
    """
    excess = sum(entry.size for entry in entries) + needed - limit
    removed: list[Path] = []
    for entry in sorted(entries, key=lambda entry: entry.used_at):
        if excess <= 0:
            break
        if entry.path.name not in kept:
            removed.append(entry.path)
            excess -= entry.size
    return removed if excess <= 0 else None


class FileCache:
    """The cache as one pod uses it. Its methods raise no error."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._folder, self._size_bytes = folder, size_bytes
        self._needed: set[str] = set()
        """Names of the files that this pod needs. It does not remove them to add others."""

    def copy_to(self, target: Path, file: StoredFile) -> bool:
        """Copies a file and verifies it. False if it is not in the cache, or damaged, for which it is removed."""
        path = self._path(file)
        try:
            if not self._has(file):
                return False
            if _copy(path, target) != file.sha256:
                logger.warning("cache_damaged path=%s: the file is downloaded again", path)
                path.unlink(missing_ok=True)
                return False
        except FileNotFoundError:  # another pod has removed it
            return False
        except OSError as error:
            logger.warning("cache_not_read folder=%s error=%s", self._folder, error)
            return False
        with suppress(OSError):  # a read-only cache
            os.utime(path)
        return True

    def add(self, folder: Path, files: Mapping[str, StoredFile]) -> None:
        """Adds the verified files of `folder` by their paths, and keeps the cache within its size."""
        self._needed |= {self._path(file).name for file in files.values()}
        try:
            missing = {path: file for path, file in files.items() if file.size and not self._has(file)}
            if missing or self._occupied() > self._size_bytes:
                with self._lock():
                    self._write(folder, missing)
        except BlockingIOError:
            logger.info("cache_busy folder=%s: another pod writes to it", self._folder)
        except OSError as error:
            logger.warning("cache_not_written folder=%s error=%s", self._folder, error)

    def _write(self, folder: Path, files: Mapping[str, StoredFile]) -> None:
        began, written = time.monotonic(), 0
        for unfinished in self._folder.glob(f"*{UNFINISHED}"):  # its writer was killed: only one writes at a time
            unfinished.unlink()
        self._make_room(0)
        for path, file in files.items():
            if self._has(file):  # two paths with equal content
                continue
            self._path(file).unlink(missing_ok=True)  # of another size
            if not self._make_room(file.size):
                logger.warning("cache_full folder=%s left_out=%s bytes=%d", self._folder, path, file.size)
                continue
            self._write_file(folder / path, file)
            written += file.size
        logger.info("cached bytes=%d seconds=%.2f", written, time.monotonic() - began)

    def _write_file(self, source: Path, file: StoredFile) -> None:
        """The file appears complete. After a power failure it can be damaged, which the next reader notices."""
        unfinished, path = self._folder / f"{file.sha256}{UNFINISHED}", self._path(file)
        try:
            if _copy(source, unfinished) == file.sha256:
                unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> bool:
        """Removes files until `needed` bytes fit, or returns False. A pod that has a file open can read it on."""
        entries = list(self._entries())
        present = sum(entry.size for entry in entries)
        limit = min(self._size_bytes, present + shutil.disk_usage(self._folder).free)
        removed = choose_removed(entries, needed, limit, self._needed)
        for path in removed or ():
            path.unlink(missing_ok=True)
        return removed is not None

    def _entries(self) -> Iterator[Entry]:
        for path in self._folder.glob(f"{PREFIX}*"):
            with suppress(FileNotFoundError):  # a reader has found it damaged
                found = path.lstat()
                yield Entry(path, found.st_size, found.st_mtime_ns)

    def _occupied(self) -> int:
        return sum(entry.size for entry in self._entries())

    def _has(self, file: StoredFile) -> bool:
        try:
            return self._path(file).lstat().st_size == file.size
        except FileNotFoundError:
            return False

    def _path(self, file: StoredFile) -> Path:
        return self._folder / f"{PREFIX}{file.sha256}"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Excludes other writers. Raises BlockingIOError instead of waiting, since a pod would start later."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)


def _copy(source: Path, target: Path) -> str:
    """Copies a file and returns the sha256 of its content, which is read once."""
    digest = hashlib.sha256()
    target.unlink(missing_ok=True)
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()
