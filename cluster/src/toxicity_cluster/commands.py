"""Runs other programs and puts the end of their output into the error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from toxicity_cluster.errors import CommandFailed

ERROR_LINES = 12


def run(
    argv: Sequence[str],
    *,
    input: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Run `argv` and return its stdout. `environment` is added to that of this process.

    Raises CommandFailed if the program is missing, exits non-zero or exceeds the timeout.
    """
    try:
        result = subprocess.run(
            list(argv),
            input=input,
            env={**os.environ, **environment} if environment else None,
            cwd=folder,
            timeout=timeout_seconds,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandFailed(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{' '.join(argv[:4])} did not finish in {timeout_seconds:.0f} s") from error
    if result.returncode != 0:
        said = "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-ERROR_LINES:])
        raise CommandFailed(f"{' '.join(argv[:6])} exited with {result.returncode}: {said}")
    return result.stdout
