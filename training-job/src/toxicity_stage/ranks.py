"""Distributed training with one process per GPU, started by torchrun: ranks, launch, and how a failure is reported.

A failed process writes its failure to a file of its own, and the process that launched it reports the stage's result.
The error files of torch.distributed.elastic do not fit here: they hold a message and a time, but neither our reason
nor our exit code, and torchrun reports the first failure even if that process only lost its connection to another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from toxicity_stage.errors import CRASHED, RankFailure

LAUNCHED = "LOCAL_RANK"
"""Environment variable that torchrun sets in each process that it starts."""


def is_main(environment: Mapping[str, str]) -> bool:
    """Whether this process writes the results: rank 0, or the only process."""
    return environment.get("RANK", "0") == "0"


def is_started(environment: Mapping[str, str]) -> bool:
    """Whether torchrun started this process."""
    return LAUNCHED in environment


def processes(environment: Mapping[str, str]) -> int:
    """The number of processes that train together (torchrun's WORLD_SIZE)."""
    return int(environment.get("WORLD_SIZE", "1"))


def local_rank(environment: Mapping[str, str]) -> int:
    """The index, on this node, of the GPU that this process uses."""
    return int(environment.get(LAUNCHED, "0"))


def leader(environment: Mapping[str, str]) -> int:
    """The process id that all processes of one training share: torchrun's, or this one's without torchrun."""
    return os.getppid() if is_started(environment) else os.getpid()


def needs_launch(gpus: int, environment: Mapping[str, str]) -> bool:
    """Whether this process must start the others: several GPUs, and torchrun has not started it."""
    return gpus > 1 and not is_started(environment)


def launch(module: str, count: int, arguments: list[str]) -> int:
    """Runs `python -m module` in `count` processes on this node until all have ended; returns torchrun's exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run([*command, "-m", module, *arguments], check=False).returncode


def value_of_first(value: float) -> float:
    """`value` of rank 0, in every process that trains together; each must call it."""
    import torch.distributed

    if not torch.distributed.is_initialized():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def leave_group() -> None:
    """Leaves the process group after training; a process that exits while still in it aborts."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def leave_failure(failure: RankFailure, folder: Path, environment: Mapping[str, str]) -> None:
    """Writes this process's failure to `folder`, atomically: torchrun may kill it when another process fails."""
    document = {"reason": failure.reason, "message": str(failure), "exitCode": failure.exit_code}
    part = folder / f"rank-{environment.get('RANK', '0')}.part"
    part.write_text(json.dumps(document), encoding="utf-8")
    os.rename(part, part.with_suffix(".json"))


def reported_failure(folder: Path) -> RankFailure | None:
    """The failure that explains why the processes ended; None if none of them wrote one.

    That is the first failure with a known reason, else the first crash: a crash may only be a lost connection to a
    process that failed for a known reason.
    """
    failures = []
    for path in folder.glob("rank-*.json"):
        document = json.loads(path.read_bytes())
        failure = RankFailure(document["reason"], document["message"], document["exitCode"])
        failures.append((failure.reason == CRASHED, path.stat().st_mtime_ns, path.name, failure))
    return min(failures)[-1] if failures else None
