"""Several attempts at one stage on one volume, as real processes: none removes a live or finished folder of another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toxicity_api import attempts
from toxicity_api.attempts import ABANDONED_SECONDS, keep_alive, open_folder

FILES = 20
PUBLISHER = """
import json, os, sys
from pathlib import Path
from toxicity_api.attempts import open_folder, publish_folder
volume, outcome = Path(sys.argv[1]), sys.argv[2]
def is_done(content):
    return json.loads(content)["outcome"] == "succeeded"
print("ready", flush=True)
for line in sys.stdin:
    final = volume / line.strip()
    work = open_folder(final, os.getpid())
    for number in range({files}):
        (work / str(number)).write_text(str(os.getpid()))
    (work / "result.json").write_text(json.dumps({{"outcome": outcome, "by": os.getpid()}}))
    print(publish_folder(work, final, "result.json", is_done), flush=True)
"""
HOLDER = """
import os, sys, time
from pathlib import Path
from toxicity_api.attempts import open_folder
print(open_folder(Path(sys.argv[1]), os.getpid()).name, flush=True)
time.sleep(600)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_many_that_publish_at_once_the_first_success_stays_whole(tmp_path: Path) -> None:
    outcomes = ["succeeded", "failed", "succeeded", "failed", "succeeded", "failed"]
    processes = [start(PUBLISHER.format(files=FILES), str(tmp_path), outcome) for outcome in outcomes]
    assert [line_of(process) for process in processes] == ["ready"] * len(processes)
    for round_ in range(20):
        final = tmp_path / f"train-{round_:x}"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{final.name}\n")
            process.stdin.flush()
        published = [line_of(process) == "True" for process in processes]
        result = json.loads((final / "result.json").read_text())
        winners = [
            process.pid
            for process, outcome, there in zip(processes, outcomes, published, strict=True)
            if there and outcome == "succeeded"
        ]
        assert winners == [result["by"]], "one success is published, and it is the one that is there"
        assert {(final / str(number)).read_text() for number in range(FILES)} == {str(result["by"])}
    for process in processes:
        process.communicate(timeout=20)


def test_live_attempt_s_folder_stays_and_a_killed_one_s_goes(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    alive, killed = start(HOLDER, str(final)), start(HOLDER, str(final))
    kept, lost = line_of(alive), line_of(killed)
    own = open_folder(final, os.getpid())
    assert {path.name for path in tmp_path.iterdir()} == {own.name, kept, lost}
    killed.kill()
    killed.communicate()
    again = open_folder(tmp_path / "quantize-def", os.getpid())
    assert {path.name for path in tmp_path.iterdir()} == {kept, again.name}, "what this process left is its own"
    alive.send_signal(signal.SIGKILL)
    alive.communicate()


HOST = socket.gethostname()


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("train-abc.tmp-pod-1-7-abcd1234", False),
        ("dataset-1f.tmp-pod-1-1-copy", False),
        ("base-model-1f.tmp-pod-1", False),
        ("train-abc.tmp-abcd1234", False),
        ("train-abc", True),
        ("train-abc.checkpoints-pod-1-7", True),
        ("train-abc.tmp", True),
        ("train-data.tmp-backup", True),
        ("notes-abc.tmp-pod-1-7-abcd1234", True),
    ],
)
def test_age_decides_over_another_host_s_folders_and_only_over_those_of_stages(
    tmp_path: Path, name: str, stays: bool
) -> None:
    for age, there in ((ABANDONED_SECONDS - 600, True), (ABANDONED_SECONDS + 600, stays)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "half").touch()
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
        open_folder(tmp_path / "evaluate-1", os.getpid())
        assert (tmp_path / name).exists() == there


def test_file_that_is_called_like_a_folder_stays(tmp_path: Path) -> None:
    file = tmp_path / "train-abc.tmp-pod-1-7-abcd1234"
    file.touch()
    os.utime(file, (1, 1))
    open_folder(tmp_path / "evaluate-1", os.getpid())
    assert file.exists()


def test_folder_that_is_written_is_renewed_until_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "BEAT_SECONDS", 0.01)
    work = open_folder(tmp_path / "train-abc", os.getpid())
    os.utime(work, (1, 1))
    keep_alive(work)
    deadline = time.monotonic() + 10
    while work.stat().st_mtime == 1:
        assert time.monotonic() < deadline
    os.rename(work, tmp_path / "train-abc")
    assert (tmp_path / "train-abc").is_dir()
