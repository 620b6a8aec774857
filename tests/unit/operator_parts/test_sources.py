"""The script that copies data out of an image, run for real with commands of this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from toxicity_operator.manifests.sources import COPY_SCRIPT


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    """Stands in for busybox: runs the command it is given."""
    path = tmp_path / "busybox"
    path.write_text('#!/bin/sh\nexec "$@"\n')
    path.chmod(0o755)
    return path


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


def test_part_of_an_earlier_try_is_thrown_away(tmp_path: Path, busybox: Path) -> None:
    source, partial = tmp_path / "a.csv", tmp_path / "dataset-1.tmp-pod-1"
    source.touch()
    partial.mkdir()
    (partial / "half").touch()
    assert copy(busybox, source, tmp_path / "dataset-1").returncode == 0
    assert [path.name for path in (tmp_path / "dataset-1").iterdir()] == ["a.csv"]
    assert not partial.exists()


def test_missing_source_fails_and_says_which(tmp_path: Path, busybox: Path) -> None:
    done = copy(busybox, tmp_path / "missing", tmp_path / "dataset-1")
    assert done.returncode != 0 and "missing" in done.stderr
    assert not (tmp_path / "dataset-1").exists()
