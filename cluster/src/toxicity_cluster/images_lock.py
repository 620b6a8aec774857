"""Rewrites the dependency locks of the images: `python -m toxicity_cluster.images_lock`. Not part of a build.

Each images/<name>/requirements.in gives a requirements.txt with exact versions for Python 3.11 on Linux. torch's lock
is first, because the images above it are constrained to its versions.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

TARGET = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")
# no header and no origin, so that a lock does not name the mirror that was used
PLAIN = ("--quiet", "--no-header", "--no-annotate")
OUTSIDE = ("--no-emit-package", "torch")


@dataclass(frozen=True)
class Lock:
    image: str
    options: tuple[str, ...] = ()
    stem: str = "requirements"


LOCKS = (
    Lock("torch", OUTSIDE),
    Lock("training", OUTSIDE),
    Lock("quantization", OUTSIDE),
    Lock("quantization-autoawq", ("--override", "overrides.txt", *OUTSIDE)),
    Lock("serving", ("--override", "overrides.txt", *OUTSIDE)),
    Lock("serving", stem="requirements-cuda"),
    Lock("base-model", ("--constraint", "../training/requirements.txt")),
    Lock("operator"),
    Lock("loadtest"),
)


def lock_command(lock: Lock, wheels: str | None) -> list[str]:
    """The command that writes `lock`, for the folder of its image. `wheels` is a find-links folder with torch."""
    argv = ["uv", "pip", "compile", *PLAIN, *TARGET, *lock.options]
    if wheels:
        argv += ["--find-links", wheels]
    return [*argv, f"{lock.stem}.in", "--output-file", f"{lock.stem}.txt"]


def main() -> int:
    settings, progress = Settings.from_environment(), Progress()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    for lock in LOCKS:
        folder = settings.sources.parent / "images" / lock.image
        with progress.step(f"locking {lock.image}/{lock.stem}.txt"):
            run(lock_command(lock, os.environ.get("TORCH_WHEELS")), folder=folder, environment={"PATH": path})
    return 0


if __name__ == "__main__":
    sys.exit(main())
