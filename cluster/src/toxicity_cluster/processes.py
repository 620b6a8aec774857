"""Long-running processes in the network namespace, identified by pid and start time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster.errors import ClusterError
from toxicity_cluster.network import inside
from toxicity_cluster.settings import Settings

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLL_SECONDS = 0.1
KILL_SECONDS = 10.0
RESTART_SECONDS = 10.0
KILL_ALL_SECONDS = 20.0


@dataclass(frozen=True)
class ProcessSpec:
    """A process to keep running. `files` are its configuration: a change restarts it."""

    name: str
    argv: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def digest(self) -> str:
        made_of = hashlib.sha256("\0".join(self.argv).encode())
        for path in self.files:
            made_of.update(path.read_bytes())
        return made_of.hexdigest()


@dataclass(frozen=True)
class ProcessRecord:
    """The content of a pid file. Start time and boot id distinguish the process from a later one with the same pid."""

    pid: int
    start_ticks: int
    boot: str
    digest: str


def ensure_running(settings: Settings, spec: ProcessSpec) -> bool:
    """Start the process unless it already runs as specified; return whether it was started."""
    record = read_record(settings, spec.name)
    if record and is_alive(record):
        if record.digest == spec.digest():
            return False
        stop(settings, spec.name, grace_seconds=RESTART_SECONDS)
    _start(settings, spec)
    return True


def is_running(settings: Settings, name: str) -> bool:
    record = read_record(settings, name)
    return record is not None and is_alive(record)


def stop(settings: Settings, name: str, grace_seconds: float) -> None:
    """Send SIGTERM, then SIGKILL after `grace_seconds` (at once if 0); return when the process has ended."""
    record = read_record(settings, name)
    if record and is_alive(record):
        stages = ((signal.SIGTERM, grace_seconds),) if grace_seconds > 0 else ()
        for number, seconds in (*stages, (signal.SIGKILL, KILL_SECONDS)):
            _signal(record.pid, number)
            if _until(lambda: not is_alive(record), seconds):
                break
        else:
            raise ClusterError(
                f"{name} (pid {record.pid}) does not end after SIGKILL: see `ps -o stat,wchan {record.pid}`."
            )
    _pid_file(settings, name).unlink(missing_ok=True)


def kill_all(find: Callable[[], Collection[int]], whose: str) -> None:
    """Send SIGKILL to what `find` returns until that is nothing. Raises ClusterError after KILL_ALL_SECONDS."""
    deadline = time.monotonic() + KILL_ALL_SECONDS
    while pids := find():
        if time.monotonic() > deadline:
            raise ClusterError(f"Processes {sorted(pids)} of {whose} do not end after SIGKILL.")
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def recorded_names(settings: Settings) -> list[str]:
    """The names of the processes that have a pid file."""
    return sorted(path.stem for path in settings.pids.glob("*.json"))


def log_path(settings: Settings, name: str) -> Path:
    return settings.logs / f"{name}.log"


def log_tail(settings: Settings, name: str, lines: int = 15) -> str:
    """The last lines of the log of a process, or a note that there is none."""
    path = log_path(settings, name)
    if not path.exists():
        return f"({name} has no log)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 64 * 1024))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def read_record(settings: Settings, name: str) -> ProcessRecord | None:
    path = _pid_file(settings, name)
    return ProcessRecord(**json.loads(path.read_text())) if path.exists() else None


def is_alive(record: ProcessRecord) -> bool:
    """Whether the process of the record still runs; a zombie does not."""
    _reap(record.pid)
    return record.boot == boot_id() and start_ticks(record.pid) == record.start_ticks


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """The start time of `pid` in clock ticks since boot; None if it does not exist or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses, and can contain spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def inherited_descriptors() -> list[int]:
    """Inherited descriptors beyond the standard streams: a daemon would keep the caller's locks and pipes open."""
    open_now = [int(entry) for entry in os.listdir("/proc/self/fd")]
    return [fd for fd in open_now if fd > 2 and Path(f"/proc/self/fd/{fd}").exists() and os.get_inheritable(fd)]


def _start(settings: Settings, spec: ProcessSpec) -> None:
    for folder in (settings.logs, settings.pids):
        folder.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    argv = inside(settings, spec.argv)
    pid = os.posix_spawn(
        "/usr/bin/nsenter",
        argv,
        {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_path(settings, spec.name)), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in inherited_descriptors()),
        ],
        setsid=True,
    )
    ticks = start_ticks(pid)
    record = {"pid": pid, "start_ticks": ticks or 0, "boot": boot_id(), "digest": spec.digest()}
    _pid_file(settings, spec.name).write_text(json.dumps(record))


def _pid_file(settings: Settings, name: str) -> Path:
    return settings.pids / f"{name}.json"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    """Reap the process if it is a dead child of this one; an earlier command may have started it."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
