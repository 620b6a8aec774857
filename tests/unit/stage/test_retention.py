"""Old results leave the volume; those that are served, requested or recent stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toxicity_api.results import StageResult
from toxicity_api.stage_config import Retention
from toxicity_stage.artifacts import open_work_folder
from toxicity_stage.retention import measure, remove_old


def a_volume(folder: Path, *names: str) -> Path:
    """A volume with these folders, the oldest first."""
    for age, name in enumerate(reversed(names)):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("versions", "keep", "stay"),
    [
        (1, ["train-d"], []),
        (2, ["train-d"], ["train-c"]),
        (3, ["train-d"], ["train-b", "train-c"]),
        (9, ["train-d"], ["train-a", "train-b", "train-c"]),
        (2, ["train-d", "train-a"], ["train-a"]),
        (1, ["train-d", "train-a", "train-b"], ["train-a", "train-b"]),
    ],
)
def test_served_and_newest_results_stay(tmp_path: Path, versions: int, keep: list[str], stay: list[str]) -> None:
    """`train-d` is the result that the stage is about to make, so it counts although it is not there yet."""
    volume = a_volume(tmp_path, "train-a", "train-b", "train-c")
    removed = remove_old(volume, Retention(keep=keep, versions=versions))
    assert left(volume) == stay
    assert sorted([*removed, *stay]) == ["train-a", "train-b", "train-c"]


def test_each_kind_of_result_has_its_own_number(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, "train-a", "quantize-a", "quantize-b", "evaluate-a", "loadtest-a", "loadtest-b")
    remove_old(volume, Retention(keep=["train-a", "quantize-c", "evaluate-c", "loadtest-b"], versions=2))
    assert left(volume) == ["evaluate-a", "loadtest-a", "loadtest-b", "quantize-b", "train-a"]


def test_checkpoints_go_and_stay_with_their_training(tmp_path: Path) -> None:
    names = ("train-a", "train-a.checkpoints-pod-1", "train-b.checkpoints", "train-c.checkpoints-pod-2")
    volume = a_volume(tmp_path, *names)
    remove_old(volume, Retention(keep=["train-c"], versions=1))
    assert left(volume) == ["train-c.checkpoints-pod-2"], "the training that resumes"


def test_downloads_stay_only_while_the_spec_requests_them(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, "base-model-a", "base-model-b", "dataset-a", "dataset-b")
    remove_old(volume, Retention(keep=["base-model-b", "dataset-a"], versions=5))
    assert left(volume) == ["base-model-b", "dataset-a"]


def test_other_files_and_running_attempts_are_left_alone(tmp_path: Path) -> None:
    names = ("lost+found", "mine", "train-notes", "train-a.tmp-other-pod-7-x", "model-a")
    volume = a_volume(tmp_path, *names)
    assert remove_old(volume, Retention(keep=[], versions=1)) == []
    assert left(volume) == sorted(names)


def test_broken_link_of_others_stops_nothing(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, "train-a")
    (volume / "mine").symlink_to("nowhere")
    assert remove_old(volume, Retention(keep=["train-b"], versions=1)) == ["train-a"]
    assert left(volume) == ["mine"]


def test_folder_that_cannot_be_removed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = a_volume(tmp_path, "train-a", "train-b")
    blocker = volume / f"train-a.tmp-{os.uname().nodename}-{os.getpid()}-{len('train-a')}"
    blocker.mkdir()
    (blocker / "file").write_text("x")
    assert remove_old(volume, Retention(keep=["train-c"], versions=1)) == ["train-b"]
    assert "train-a" in left(volume)


def test_removal_that_was_interrupted_is_completed_by_the_next_stage(tmp_path: Path) -> None:
    volume = a_volume(tmp_path, f"train-a.tmp-{os.uname().nodename}-{os.getpid()}-7")
    work = open_work_folder(volume / "train-b")
    assert left(volume) == [work.name]


def test_volume_is_measured_by_result_with_its_checkpoints(tmp_path: Path) -> None:
    sizes = {"train-a": 3, "train-a.checkpoints-pod-1": 2, "quantize-b": 9, "base-model-c": 6, "lost+found": 40}
    for name, blocks in sizes.items():
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_bytes(b"x" * 4096 * blocks)
    figures = measure(tmp_path)
    assert [(folder.name, folder.size_bytes // 4096) for folder in figures.folders] == [
        ("quantize-b", 9), ("base-model-c", 6), ("train-a", 5),
    ]  # fmt: skip
    assert figures.used_bytes == 20 * 4096
    assert figures.free_bytes > 0


def test_figures_of_many_folders_fit_into_the_termination_message(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"train-{number:012x}").mkdir()
        (tmp_path / f"train-{number:012x}" / "file").write_bytes(b"x" * 4096)
    figures = measure(tmp_path)
    result = StageResult(stage="train", fingerprint="abc", outcome="succeeded", storage=figures)
    assert figures.used_bytes == 60 * 4096
    assert StageResult.model_validate_json(result.to_termination_message()).storage == figures
    crowded = result.model_copy(update={"outcome": "failed", "message": "ё" * 3000})
    read = StageResult.model_validate_json(crowded.to_termination_message())
    assert (read.storage, read.message[:3]) == (None, "ёёё")
