"""A stage's folder appears complete or not at all, with a result document."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from toxicity_api.checksums import verify_checksums
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_stage.artifacts import (
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
from toxicity_stage.errors import DatasetError, ModelError

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


OTHER_POD = "ru-train-1a2b3c4d-x7k2p-1"


def test_work_folder_is_fresh_and_another_attempt_s_stays(tmp_path: Path) -> None:
    other = tmp_path / f"train-abc.tmp-{OTHER_POD}-abcd1234"
    other.mkdir()
    (other / "half").write_text("x")
    dead = open_work_folder(tmp_path / "train-abc")
    fresh = open_work_folder(tmp_path / "train-abc")
    assert dead != fresh, "the same process begins anew"
    assert names(tmp_path) == sorted([fresh.name, other.name])
    assert (names(fresh), names(other)) == ([], ["half"])


def test_success_of_another_attempt_is_kept_with_its_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = tmp_path / "train-abc"
    theirs = DONE.model_copy(update={"message": "theirs"})
    assert publish(open_work_folder(final), final, theirs) == theirs
    mine = open_work_folder(final)
    (mine / "weights").write_text("mine")
    assert publish(mine, final, DONE) == theirs
    assert (names(tmp_path), names(final)) == (["train-abc"], ["result.json"])
    assert "by another attempt" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ['{"outcome": "succeeded", "stage": "distil"}', '{"outcome": "succeeded", "fingerprint": {}}']
)
def test_success_that_a_later_version_wrote_is_kept_even_where_it_cannot_be_read(
    tmp_path: Path, content: str
) -> None:
    final = tmp_path / "train-abc"
    final.mkdir()
    (final / "result.json").write_text(content)
    assert publish(open_work_folder(final), final, DONE) == DONE
    assert (final / "result.json").read_text() == content


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_folder_without_a_result_gives_way_with_all_that_is_in_it(tmp_path: Path, content: str | None) -> None:
    final = tmp_path / "train-abc"
    (final / "model" / "deep").mkdir(parents=True)
    (final / "model" / "deep" / "weights").write_text("half")
    if content is not None:
        (final / "result.json").write_text(content)
    assert publish(open_work_folder(final), final, DONE) == DONE
    assert names(final) == ["result.json"]


@pytest.mark.parametrize(
    ("outcome", "age", "stays"), [("succeeded", 7200, False), ("succeeded", 60, True), ("failed", 7200, True)]
)
def test_abandoned_checkpoints_are_removed_once_nobody_goes_on_from_them(
    tmp_path: Path, outcome: str, age: float, stays: bool
) -> None:
    published = DONE.model_copy(update={"outcome": outcome})
    publish(open_work_folder(tmp_path / "train-abc"), tmp_path / "train-abc", published)
    checkpoints = tmp_path / f"train-abc.checkpoints-{OTHER_POD}"
    (checkpoints / "checkpoint-5").mkdir(parents=True)
    then = time.time() - age
    os.utime(checkpoints, (then, then))
    open_work_folder(tmp_path / "quantize-def")
    assert checkpoints.exists() == stays


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
    with pytest.raises(ModelError, match="run the previous stage again") as caught:
        input_result(tmp_path)
    assert caught.value.reason == "InputMissing"


def test_report_leaves_a_document_the_kubelet_can_carry(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    report(FAILED.model_copy(update={"message": "ё" * 9000}), log)
    assert len(log.read_bytes()) <= 4096
    assert json.loads(log.read_text(encoding="utf-8"))["reason"] == "OutOfMemory"


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's error."""


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (DatasetError("MissingColumn", "m"), "MissingColumn", EXIT_INVALID_INPUT),
        (MemoryError(), "OutOfMemory", EXIT_FAILED),
        (OutOfMemoryError("CUDA out of memory"), "OutOfMemory", EXIT_FAILED),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"), "OutOfMemory", EXIT_FAILED),
        (OSError(errno.ENOSPC, "No space left on device"), "VolumeFull", EXIT_FAILED),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "VolumeFull", EXIT_FAILED),
        (
            RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
            "VolumeFull",
            EXIT_FAILED,
        ),
        (OSError(errno.EIO, "Input/output error"), "TrainingCrashed", EXIT_FAILED),
        (RuntimeError("something else"), "TrainingCrashed", EXIT_FAILED),
        (KeyError("x"), "TrainingCrashed", EXIT_FAILED),
    ],
)
def test_a_failure_says_why_and_whether_a_retry_may_help(error: Exception, reason: str, code: int) -> None:
    result = failed_result(DONE, error, "TrainingCrashed")
    assert (result.outcome, result.reason, result.fingerprint) == ("failed", reason, "abc")
    assert str(error) in result.message
    assert exit_code(error) == code


def test_full_volume_behind_another_error_is_told_with_what_to_do() -> None:
    error = RuntimeError("cannot write the checkpoint")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    result = failed_result(DONE, error, "TrainingCrashed")
    assert result.reason == "VolumeFull"
    assert "raise storage.size if the storage class has allowVolumeExpansion" in result.message
