"""A stage's folder appears whole or not at all, and its result document tells what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toxicity_api.checksums import verify_checksums
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_training.artifacts import (
    exit_code,
    failed_result,
    input_result,
    keep_failure,
    open_work_folder,
    publish,
    read_result,
    report,
    succeeded_result,
)
from toxicity_training.errors import DatasetError, ModelError

DONE = StageResult(stage="train", fingerprint="abc", outcome="succeeded")
FAILED = StageResult(stage="train", fingerprint="abc", outcome="failed", reason="OutOfMemory", message="too big")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_publish_moves_the_folder_with_its_result(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    work = open_work_folder(final)
    (work / "model").mkdir()
    (work / "model" / "weights").write_text("w")
    assert names(tmp_path) == [work.name]
    assert not final.exists()
    publish(work, final, DONE)
    assert names(tmp_path) == ["train-abc"]
    assert names(final) == ["model", "result.json"]
    assert verify_checksums(final / "model"), "serving checks that the weights are those that were published"
    assert read_result(final) == DONE


def test_open_work_folder_removes_what_a_dead_attempt_left_but_no_other_stage_s(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    dead = open_work_folder(final)
    (dead / "half").write_text("x")
    other = open_work_folder(tmp_path / "train-abcdef")
    fresh = open_work_folder(final)
    assert names(tmp_path) == sorted([fresh.name, other.name])
    assert names(fresh) == []


def test_a_failure_gives_way_to_a_later_success_and_never_replaces_one(tmp_path: Path) -> None:
    final = tmp_path / "train-abc"
    keep_failure(FAILED, final)
    assert read_result(final) == FAILED
    assert succeeded_result(final) is None
    publish(open_work_folder(final), final, DONE)
    assert succeeded_result(final) == DONE
    keep_failure(FAILED, final)
    assert succeeded_result(final) == DONE


@pytest.mark.parametrize("content", [None, "", "{}", '{"stage": "train"'])
def test_read_result_is_none_when_missing_or_damaged(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None


def test_input_result_says_which_folder_lacks_a_success(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run the stage before again") as caught:
        input_result(tmp_path)
    assert caught.value.reason == "InputMissing"


def test_report_leaves_a_document_the_kubelet_can_carry(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    report(FAILED.model_copy(update={"message": "ё" * 9000}), log)
    assert len(log.read_bytes()) <= 4096
    assert json.loads(log.read_text(encoding="utf-8"))["reason"] == "OutOfMemory"


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (DatasetError("MissingColumn", "m"), "MissingColumn", EXIT_INVALID_INPUT),
        (MemoryError(), "OutOfMemory", EXIT_FAILED),
        (OutOfMemoryError("CUDA out of memory"), "OutOfMemory", EXIT_FAILED),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"), "OutOfMemory", EXIT_FAILED),
        (RuntimeError("something else"), "TrainingCrashed", EXIT_FAILED),
        (KeyError("x"), "TrainingCrashed", EXIT_FAILED),
    ],
)
def test_a_failure_says_why_and_whether_a_retry_may_help(error: Exception, reason: str, code: int) -> None:
    result = failed_result(DONE, error, "TrainingCrashed")
    assert (result.outcome, result.reason, result.fingerprint) == ("failed", reason, "abc")
    assert str(error) in result.message
    assert exit_code(error) == code
