"""Each attempt has its own checkpoint folder and resumes from the newest complete checkpoint of all attempts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toxicity_training.engines.checkpoints import (
    checkpoint_folder,
    checkpoints_folder,
    last_checkpoint,
    mark_complete,
    open_checkpoints,
    remove_checkpoints,
)

OTHER = ".checkpoints-ru-train-1a2b3c4d-x7k2p-1"
FILES = 20
WRITER = """
import os, sys
from pathlib import Path
from toxicity_training.engines.checkpoints import checkpoint_folder, mark_complete, open_checkpoints, remove_older
root = open_checkpoints(Path(sys.argv[1]))
step = 0
while True:
    step += 1
    folder = checkpoint_folder(root, step)
    folder.mkdir()
    for number in range({files}):
        (folder / f"{{number}}.bin").write_text(str(step) * 1000)
    mark_complete(folder)
    remove_older(root)
    if step == 3:
        print("writes", flush=True)
"""


def leave(root: Path, step: int, content: str, marked: bool = True) -> Path:
    folder = checkpoint_folder(root, step)
    folder.mkdir(parents=True)
    (folder / "weights").write_text(content)
    if marked:
        mark_complete(folder)
    return folder


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder, (then, then))


def test_attempt_goes_on_from_a_copy_of_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    other = tmp_path / f"train-abc{OTHER}"
    leave(other, 5, "five")
    newest = leave(other, 10, "ten")
    leave(other, 15, "half", marked=False)
    leave(tmp_path / "train-abcd.checkpoints-pod-1-1", 90, "another training's")
    own = open_checkpoints(final)
    found = last_checkpoint(own)
    assert found == checkpoint_folder(checkpoints_folder(final), 10)
    assert (found / "weights").read_text() == "ten"
    (found / "weights").write_text("mine")
    remove_checkpoints(final)
    assert (newest / "weights").read_text() == "ten"
    assert sorted(path.name for path in other.iterdir()) == ["checkpoint-10", "checkpoint-15", "checkpoint-5"]
    assert not own.exists()


def test_own_checkpoint_is_kept_when_it_is_the_newest(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    leave(tmp_path / f"train-abc{OTHER}", 5, "theirs")
    leave(checkpoints_folder(final), 10, "mine")
    found = last_checkpoint(open_checkpoints(final))
    assert found is not None and (found / "weights").read_text() == "mine"


def test_checkpoints_of_the_release_before_are_gone_on_from(tmp_path: Path) -> None:
    folder = leave(tmp_path / "train-abc.checkpoints", 7, "older", marked=False)
    (folder / "complete").touch()
    found = last_checkpoint(open_checkpoints(tmp_path / "train-abc"))
    assert found is not None and (found.name, (found / "weights").read_text()) == ("checkpoint-7", "older")


def test_checkpoint_that_is_being_removed_is_passed_over(tmp_path: Path) -> None:
    other = tmp_path / f"train-abc{OTHER}"
    leave(other, 5, "five")
    (leave(other, 10, "ten") / "weights").unlink()
    found = last_checkpoint(open_checkpoints(tmp_path / "train-abc"))
    assert found is not None and (found.name, (found / "weights").read_text()) == ("checkpoint-5", "five")


@pytest.mark.parametrize(("seconds", "stays"), [(1800, True), (7200, False)])
def test_abandoned_checkpoints_go_once_there_is_a_copy(tmp_path: Path, seconds: float, stays: bool) -> None:
    other = tmp_path / f"train-abc{OTHER}"
    leave(other, 5, "five")
    age(other, seconds)
    found = last_checkpoint(open_checkpoints(tmp_path / "train-abc"))
    assert found is not None and (found / "weights").read_text() == "five"
    assert other.exists() == stays


def test_copies_are_whole_while_another_attempt_writes_and_removes(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    command = [sys.executable, "-c", WRITER.format(files=FILES), str(final)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "writes\n"
        steps = set()
        for _ in range(20):
            found = last_checkpoint(open_checkpoints(final))
            if found is None:
                continue
            steps.add(step := found.name.removeprefix("checkpoint-"))
            assert {path.name for path in found.iterdir()} == {*(f"{n}.bin" for n in range(FILES)), "complete"}
            assert {path.read_text() for path in found.glob("*.bin")} == {step * 1000}
            remove_checkpoints(final)
        assert writer.poll() is None, "the writer was not disturbed"
        writer.kill()
    assert steps
    killed = last_checkpoint(open_checkpoints(final))
    assert killed is not None and [path.name for path in tmp_path.iterdir()] == [killed.parent.name]
