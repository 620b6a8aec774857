"""Rewrites the dependency locks of the images: `python -m toxicity_cluster.images_lock`. Not part of a build.

Each extra of an image gives its requirements.txt with exact versions for Python 3.11 on Linux and the hashes
of their files; uv installs no other file. torch's lock is first, because the images above it are constrained to its
versions. torch itself is in no lock: a folder or an index of the user provides it.
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
PLAIN = ("--quiet", "--no-header", "--no-annotate", "--generate-hashes")
OUTSIDE = ("--no-emit-package", "torch")
ABOVE_TORCH = ("--constraint", "../torch/requirements.txt", *OUTSIDE)


@dataclass(frozen=True)
class Lock:
    """One lock file: of an extra in pyproject.toml, or else of the file `<stem>.in` in the image's folder."""

    image: str
    extra: str = ""
    options: tuple[str, ...] = ()
    stem: str = "requirements"


LOCKS = (
    Lock("torch", options=OUTSIDE),
    Lock("training", "training", ABOVE_TORCH),
    Lock("quantization", "quantization", ABOVE_TORCH),
    Lock("quantization-autoawq", "quantization-autoawq", ("--override", "overrides.txt", *ABOVE_TORCH)),
    Lock("serving", "serving-cpu", ("--override", "overrides.txt", *ABOVE_TORCH)),
    Lock("serving", "serving", stem="requirements-cuda"),
    Lock("base-model", options=("--constraint", "../training/requirements.txt")),
    Lock("operator", "operator"),
    Lock("loadtest", "loadtest"),
)


def lock_command(lock: Lock, wheels: str | None) -> list[str]:
    """The command that writes `lock`, for the folder of its image. `wheels` is a find-links folder with torch."""
    argv = ["uv", "pip", "compile", *PLAIN, *TARGET, *lock.options]
    if wheels:
        argv += ["--find-links", wheels]
    source = ["../../pyproject.toml", "--extra", lock.extra] if lock.extra else [f"{lock.stem}.in"]
    return [*argv, *source, "--output-file", f"{lock.stem}.txt"]


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
