"""A pid file is valid only for the process that it was written for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from toxicity_cluster.processes import (
    ProcessRecord,
    boot_id,
    inherited_descriptors,
    is_alive,
    is_running,
    log_tail,
    recorded_names,
    start_ticks,
    stop,
)
from toxicity_cluster.settings import Settings

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)",
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(cache=tmp_path / "cache", state=tmp_path / "state", sources=tmp_path)
    settings.pids.mkdir(parents=True)
    settings.logs.mkdir()
    return settings


def myself() -> ProcessRecord:
    return ProcessRecord(os.getpid(), start_ticks(os.getpid()) or 0, boot_id(), "")


def write_record(settings: Settings, name: str, pid: int) -> None:
    record = {"pid": pid, "start_ticks": start_ticks(pid), "boot": boot_id(), "digest": ""}
    (settings.pids / f"{name}.json").write_text(json.dumps(record))


def test_a_record_is_alive_only_with_its_start_time_and_boot() -> None:
    assert is_alive(myself())
    assert not is_alive(replace(myself(), start_ticks=myself().start_ticks + 1))
    assert not is_alive(replace(myself(), boot="another"))


def test_a_daemon_closes_what_its_caller_left_open(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as inherited, (tmp_path / "own").open("w") as own:
        os.set_inheritable(inherited.fileno(), True)
        found = inherited_descriptors()
        assert inherited.fileno() in found
        assert own.fileno() not in found
        assert not {0, 1, 2} & set(found)


def test_start_ticks_is_none_when_there_is_no_such_process() -> None:
    assert start_ticks(2**22 + 1) is None


@pytest.mark.parametrize(("argv", "grace_seconds"), [(SLEEPER, 10.0), (SLEEPER, 0.0), (STUBBORN, 0.3)])
def test_stop_ends_the_process_and_forgets_it(settings: Settings, argv: list[str], grace_seconds: float) -> None:
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        if argv is STUBBORN and process.stdout:
            assert process.stdout.readline() == b"on\n"
        write_record(settings, "sleeper", process.pid)
        assert is_running(settings, "sleeper")
        stop(settings, "sleeper", grace_seconds=grace_seconds)
        assert start_ticks(process.pid) is None
    assert recorded_names(settings) == []


def test_stop_leaves_a_stranger_with_the_same_pid_alone(settings: Settings) -> None:
    with subprocess.Popen(SLEEPER) as stranger:
        record = {"pid": stranger.pid, "start_ticks": 1, "boot": boot_id(), "digest": ""}
        (settings.pids / "old.json").write_text(json.dumps(record))
        stop(settings, "old", grace_seconds=0.0)
        assert stranger.poll() is None
        stranger.kill()
    assert recorded_names(settings) == []


def test_log_tail_returns_the_last_lines(settings: Settings) -> None:
    (settings.logs / "kubelet.log").write_text("\n".join(str(number) for number in range(100)))
    assert log_tail(settings, "kubelet", lines=3) == "97\n98\n99"
    assert log_tail(settings, "etcd") == "(etcd has no log)"
