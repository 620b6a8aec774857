"""Several processes, one per GPU, as torchrun starts them: which one this is, and how they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

LAUNCHED = "LOCAL_RANK"


def is_main(environment: Mapping[str, str]) -> bool:
    """Whether this process is the one that writes: rank 0, or the only one."""
    return environment.get("RANK", "0") == "0"


def processes(environment: Mapping[str, str]) -> int:
    """How many processes train together."""
    return int(environment.get("WORLD_SIZE", "1"))


def local_rank(environment: Mapping[str, str]) -> int:
    """Which of the node's GPUs is this process's own."""
    return int(environment.get(LAUNCHED, "0"))


def leader(environment: Mapping[str, str]) -> int:
    """The process that stands for all that train together here: the one that torchrun started them from."""
    return os.getppid() if LAUNCHED in environment else os.getpid()


def needs_launch(gpus: int, environment: Mapping[str, str]) -> bool:
    """Whether this process must start the others; not when torchrun, here or from outside, already has."""
    return gpus > 1 and LAUNCHED not in environment


def leave_group() -> None:
    """Ends what ties this process to the others, once they have trained; a process that dies tied aborts."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(module: str, count: int, arguments: list[str]) -> int:
    """Runs `python -m module` in `count` processes on this node until all have ended; torchrun's exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run([*command, "-m", module, *arguments], check=False).returncode
