"""The script that copies data from an image, run with the commands of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from toxicity_operator.manifests.sources import COPY_SCRIPT


@pytest.fixture(params=["stand-in", "real"])
def busybox(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A program that runs its arguments: with the commands of this machine, or with those of busybox."""
    path = tmp_path / "busybox"
    path.write_text(f"#!/bin/sh\n{runs(request.param)}\n")
    path.chmod(0o755)
    return path


def runs(kind: str) -> str:
    if kind == "stand-in":
        return 'exec "$@"'
    real = shutil.which("busybox")
    if real is None:
        pytest.fail("busybox is not on PATH: run `make test-packages` as root, or install it")
    return f'exec {real} "$@"'


def copy(busybox: Path, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", COPY_SCRIPT, str(busybox), str(source), str(target)]
    return subprocess.run(
        command, env={**os.environ, "HOSTNAME": "pod-1"}, capture_output=True, text=True, check=False
    )


def test_file_lands_in_the_folder_under_its_name(tmp_path: Path, busybox: Path) -> None:
    source = tmp_path / "comments.csv"
    source.write_text("comment,toxic\n")
    assert copy(busybox, source, tmp_path / "volume" / "dataset-1").returncode == 0
    assert (tmp_path / "volume" / "dataset-1" / "comments.csv").read_text() == "comment,toxic\n"


def test_folder_is_copied_whole_and_leaves_no_part_behind(tmp_path: Path, busybox: Path) -> None:
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "sub" / "a").write_text("a")
    assert copy(busybox, source, tmp_path / "volume" / "base-model-1").returncode == 0
    assert sorted(path.name for path in (tmp_path / "volume").rglob("*")) == [
        "a",
        "base-model-1",
        "config.json",
        "sub",
    ]


def test_what_is_there_is_not_copied_again(tmp_path: Path, busybox: Path) -> None:
    target = tmp_path / "base-model-1"
    target.mkdir()
    (target / "mark").touch()
    assert copy(busybox, tmp_path / "missing", target).returncode == 0
    assert [path.name for path in target.iterdir()] == ["mark"]


@pytest.mark.parametrize("there_already", [False, True])
def test_only_what_was_abandoned_is_removed(tmp_path: Path, busybox: Path, there_already: bool) -> None:
    source, volume = tmp_path / "a.csv", tmp_path / "volume"
    source.touch()
    ages = {
        "dataset-1.tmp-pod-2-1-copy": 7200,
        "dataset-1.tmp-pod-3-1-copy": 1800,
        "dataset-10.tmp-pod-2-1-copy": 7200,
    }
    for name, age in ages.items():
        (volume / name / "sub").mkdir(parents=True)
        (volume / name / "half").touch()
        os.utime(volume / name, (time.time() - age, time.time() - age))
    if there_already:
        (volume / "dataset-1").mkdir()
    assert copy(busybox, source, volume / "dataset-1").returncode == 0
    left = ["dataset-1", "dataset-1.tmp-pod-3-1-copy", "dataset-10.tmp-pod-2-1-copy"]
    assert sorted(path.name for path in volume.iterdir()) == left
    assert (volume / left[1] / "half").exists()
    assert [path.name for path in (volume / "dataset-1").iterdir()] == ([] if there_already else ["a.csv"])


def test_folder_named_with_spaces_and_stars_is_copied_and_nothing_else_removed(
    tmp_path: Path, busybox: Path
) -> None:
    source, volume = tmp_path / "a b*.csv", tmp_path / "vol * ume"
    source.touch()
    (volume / "other.tmp-pod-2").mkdir(parents=True)
    assert copy(busybox, source, volume / "data set").returncode == 0
    assert sorted(path.name for path in volume.rglob("*")) == ["a b*.csv", "data set", "other.tmp-pod-2"]


@contextmanager
def start(busybox: Path, command: str, source: Path, target: Path) -> Iterator[subprocess.Popen[str]]:
    """The running script, blocked at the busybox command `command` until it is released."""
    gate = busybox.with_name("gate")
    last = busybox.read_text().splitlines()[-1]
    os.mkfifo(gate)
    busybox.write_text(
        f'#!/bin/sh\nif [ "$1" = {command} ]; then echo at {command}; read line < {gate}; fi\n{last}\n'
    )
    with subprocess.Popen(
        ["sh", "-c", COPY_SCRIPT, str(busybox), str(source), str(target)],
        env={**os.environ, "HOSTNAME": "pod-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == f"at {command}\n"
            yield process
        finally:
            with suppress(ProcessLookupError):  # after a failure its children still wait, and hold the pipes open
                os.killpg(process.pid, signal.SIGKILL)


def test_terminated_copy_ends_at_once_and_leaves_nothing(tmp_path: Path, busybox: Path) -> None:
    source, volume = tmp_path / "a.csv", tmp_path / "volume"
    source.touch()
    with start(busybox, "cp", source, volume / "dataset-1") as process:
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert list(volume.iterdir()) == []


@pytest.mark.parametrize("host", ["pod-1", "pod-2"])
@pytest.mark.parametrize("command", ["cp", "chmod", "mv"])
def test_slower_one_of_two_copies_finds_the_target_there(
    tmp_path: Path, busybox: Path, command: str, host: str
) -> None:
    source, volume = tmp_path / "a.csv", tmp_path / "volume"
    source.write_text("whole")
    free = busybox.read_text()
    with start(busybox, command, source, volume / "dataset-1") as slow:
        # a new file: a script that a process is just executing cannot be written
        released = busybox.with_name("released")
        released.write_text(free)
        released.chmod(0o755)
        released.replace(busybox)
        (part,) = volume.iterdir()
        other = subprocess.run(
            ["sh", "-c", COPY_SCRIPT, str(busybox), str(source), str(volume / "dataset-1")],
            env={**os.environ, "HOSTNAME": host},
            check=False,
        )
        assert part.is_dir(), "what the slower one has copied so far is its own"
        busybox.with_name("gate").write_text("\n")
        assert (other.returncode, slow.wait(timeout=10)) == (0, 0)
    assert [path.name for path in volume.iterdir()] == ["dataset-1"]
    assert (volume / "dataset-1" / "a.csv").read_text() == "whole"


def test_missing_source_fails_and_says_which(tmp_path: Path, busybox: Path) -> None:
    done = copy(busybox, tmp_path / "missing", tmp_path / "dataset-1")
    assert done.returncode != 0 and "missing" in done.stderr
    assert not (tmp_path / "dataset-1").exists()
    assert list(tmp_path.glob("*.tmp-*")) == []
