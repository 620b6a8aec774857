"""A failure of one of several training processes is reported like that of a single process.

The processes are real and fail instead of training; the test sets the variables that torchrun sets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.training.stage_process import configure_training
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT
from toxicity_stage.artifacts import read_result
from toxicity_training import stage
from toxicity_training.__main__ import main

PROCESS = """
import sys, time
from pathlib import Path
from toxicity_training import stage
from toxicity_training.__main__ import main
from toxicity_stage.errors import DatasetError, ModelError
class OutOfMemoryError(RuntimeError):
    "Named as torch names its own."
def run(config):
    Path(sys.argv[1], str(time.monotonic_ns())).touch()
    while len(list(Path(sys.argv[1]).iterdir())) < int(sys.argv[2]):
        pass
    raise {error}
stage.run = run
sys.exit(main(sys.argv[3:]))
"""
"""Fails at the same time as the others, once as many processes as its second argument have started."""


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, gpus: int) -> None:
    folder.mkdir()
    rows = "".join(f"текст номер {number},{number % 2}\n" for number in range(60))
    configure_training(monkeypatch, folder, f"comment,toxic\n{rows}", gpus)


def start(folder: Path, error: str, count: int, arguments: Sequence[str], **rank: str) -> subprocess.Popen[bytes]:
    (folder / "met").mkdir(exist_ok=True)
    command = [sys.executable, "-c", PROCESS.format(error=error), str(folder / "met"), str(count), *arguments]
    return subprocess.Popen(command, env=os.environ | rank)


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path, error: str) -> tuple[int, dict[str, Any]]:
    """Exit code and termination message of one process without others."""
    configure(monkeypatch, folder, gpus=1)
    code = start(folder, error, 1, ["--termination-log", str(folder / "log")]).wait(timeout=60)
    return code, json.loads((folder / "log").read_text(encoding="utf-8"))


def together(monkeypatch: pytest.MonkeyPatch, folder: Path, errors: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """The same for a stage that starts a process per error, like torchrun."""
    configure(monkeypatch, folder, gpus=len(errors))

    def launch(module: str, count: int, arguments: list[str]) -> int:
        started = [
            start(folder, error, count, arguments, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
            for rank, error in enumerate(errors)
        ]
        assert all(process.wait(timeout=60) != 0 for process in started)
        return 1

    monkeypatch.setattr(stage, "launch", launch)
    code = main(["--termination-log", str(folder / "log")])
    return code, json.loads((folder / "log").read_text(encoding="utf-8"))


KINDS = {
    'ModelError("NotSafetensors", "baseModel: no .safetensors file; " + "провал " * 90)': EXIT_INVALID_INPUT,
    'DatasetError("OneClassSplit", "dataset: one label")': EXIT_INVALID_INPUT,
    'OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")': EXIT_FAILED,
    "MemoryError()": EXIT_FAILED,
    'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: 1 bytes")': EXIT_FAILED,
    'RuntimeError("no device 1")': EXIT_FAILED,
    'KeyError("x")': EXIT_FAILED,
}
LOST = 'RuntimeError("Connection closed by peer")'


@pytest.mark.parametrize("error", KINDS)
def test_failure_of_two_processes_is_told_like_that_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    expected = alone(monkeypatch, tmp_path / "alone", error)
    assert expected[0] == KINDS[error]
    assert together(monkeypatch, tmp_path / "together", [error, error]) == expected


def test_processes_that_fail_alike_leave_one_readable_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        code, document = together(monkeypatch, folder, ['ModelError("NoWeights", "baseModel: none")'] * 4)
        assert (code, document["reason"], document["message"]) == (42, "NoWeights", "baseModel: none")
        kept = read_result(folder / "artifacts" / "train-abc")
        assert kept is not None and kept.reason == "NoWeights"
        assert [path.name for path in (folder / "artifacts").iterdir()] == ["train-abc"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("errors", [(LOST, 'OutOfMemoryError("CUDA")'), ('OutOfMemoryError("CUDA")', LOST)])
def test_what_is_known_goes_before_the_crash_of_those_that_lost_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: tuple[str, str]
) -> None:
    code, document = together(monkeypatch, tmp_path / "stage", errors)
    assert (code, document["reason"]) == (EXIT_FAILED, "OutOfMemory")


def test_process_that_is_killed_or_leaves_half_a_report_is_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, tmp_path / "stage", gpus=2)

    def launch(module: str, count: int, arguments: list[str]) -> int:
        (Path(arguments[-1]) / "rank-0.part").write_text('{"reason": "OutOf', encoding="utf-8")
        return 1

    monkeypatch.setattr(stage, "launch", launch)
    assert main(["--termination-log", str(tmp_path / "log")]) == EXIT_FAILED
    document = json.loads((tmp_path / "log").read_text(encoding="utf-8"))
    assert document["reason"] == "TrainingCrashed" and "left no result" in document["message"]


def test_processes_that_torchrun_started_from_outside_tell_it_and_write_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stage"
    configure(monkeypatch, folder, gpus=2)
    started = [
        start(folder, "MemoryError()", 2, ["--termination-log", str(folder / f"log-{rank}")], LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    assert [process.wait(timeout=60) for process in started] == [EXIT_FAILED] * 2
    for rank in range(2):
        document = json.loads((folder / f"log-{rank}").read_text(encoding="utf-8"))
        assert document["reason"] == "OutOfMemory"
    assert not (folder / "artifacts").exists()
