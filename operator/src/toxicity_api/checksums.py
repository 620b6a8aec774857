"""Checksums of a model folder: sha256 of every file, in CHECKSUMS_FILE of the same folder.

The stage writes the file last, and serving verifies it before it loads the model. Files are hashed in threads, since
hashlib releases the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKSUMS_FILE = "checksums.json"


class ChecksumError(ValueError):
    """A file of the folder was changed, added or removed. The message names the file."""


def write_checksums(folder: Path) -> None:
    """Write CHECKSUMS_FILE for all other files of `folder` and its subfolders."""
    document = {"algorithm": "sha256", "files": _digests(folder, _files(folder))}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def verify_checksums(folder: Path) -> bool:
    """Verify all files of `folder`. Return False if it has no CHECKSUMS_FILE.

    Raises ChecksumError that names the first file that was changed, added or removed, and OSError for a file that
    cannot be read.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return False
    expected = _read(path)
    names = _files(folder)
    for name in sorted({*expected} ^ {*names}):
        raise ChecksumError(f"{folder / name} {'is missing' if name in expected else f'is not in {path.name}'}")
    for name, digest in _digests(folder, names).items():
        if digest != expected[name]:
            raise ChecksumError(f"{folder / name} has sha256 {digest}, but {path.name} says {expected[name]}")
    return True


def _read(path: Path) -> dict[str, str]:
    """Return the digests by file name."""
    try:
        document = json.loads(path.read_bytes())
        algorithm, files = document["algorithm"], dict(document["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ChecksumError(f"{path} cannot be read: {error!r}") from error
    if algorithm != "sha256":
        raise ChecksumError(f"{path} uses the algorithm {algorithm!r}; only sha256 is supported")
    return files


def _files(folder: Path) -> list[str]:
    """Return the relative paths of all files except CHECKSUMS_FILE."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != CHECKSUMS_FILE)


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="sha256") as pool:
        return dict(zip(names, pool.map(lambda name: _sha256(folder / name), names), strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
