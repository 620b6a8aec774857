"""Folders as the stages leave them, and programs that publish or cache one and can be killed."""

from __future__ import annotations

import random
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from support.store.server import open_store
from toxicity_store.cache import FileCache
from toxicity_store.manifest import StoredFile

LARGE = 9_000_000
"""More than one part of an upload."""


def make_folder(folder: Path, seed: int, large: int = LARGE) -> Path:
    """A folder with a large file, an empty one and small ones; other seeds give other contents."""
    content = random.Random(seed)
    (folder / "model").mkdir(parents=True)
    (folder / "splits").mkdir()
    (folder / "model" / "weights.safetensors").write_bytes(content.randbytes(large))
    (folder / "model" / "config.json").write_text(f'{{"seed": {seed}}}')
    (folder / "splits" / "test.csv").write_text(f"text,label\nтекст {seed},0\n", encoding="utf-8")
    (folder / "result.json").write_text(f'{{"outcome": "succeeded", "fingerprint": "{seed}"}}')
    (folder / "empty").touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The content of each file by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish(endpoint: str, secrets: Path, folder: Path) -> None:
    """What the process of a test does until it is killed."""
    open_store(endpoint, secrets).publish(folder)


def start_publishing(endpoint: str, secrets: Path, folder: Path) -> BaseProcess:
    """Publishes a folder in another process."""
    return _start(publish, endpoint, secrets, folder)


def add_to_cache(cache: Path, folder: Path, files: dict[str, StoredFile]) -> None:
    """What the process of a test does until it is killed."""
    FileCache(cache, 10**9).add(folder, files)


def start_adding(cache: Path, folder: Path, files: dict[str, StoredFile]) -> BaseProcess:
    """Adds files of a folder to a cache in another process."""
    return _start(add_to_cache, cache, folder, files)


def _start(target: Callable[..., None], *args: object) -> BaseProcess:
    """Starts a process, forked from one that has imported what is needed."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["obstore.store", "support.store.artifacts", "toxicity_store.checkpoints"])
    process = context.Process(target=target, args=args)
    process.start()
    return process
