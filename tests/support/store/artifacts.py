"""Folders as the stages leave them, and a program that publishes one and can be killed."""

from __future__ import annotations

import random
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from support.store.server import open_store

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
    """Publishes a folder in another process, forked from one that has imported what is needed."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["obstore.store", "support.store.artifacts", "toxicity_store.checkpoints"])
    process = context.Process(target=publish, args=(endpoint, secrets, folder))
    process.start()
    return process
