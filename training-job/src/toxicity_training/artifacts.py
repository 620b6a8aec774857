"""Where a stage's folder and its result document go; the last step of the training and quantization stages.

A folder appears under its final name only when it is whole; `toxicity_api.attempts` says how several attempts get on.
The result document is left in the folder and in the container's termination message, where the operator reads it, also
after a failure.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pydantic import ValidationError

from toxicity_api.attempts import keep_alive, open_folder, publish_folder, says
from toxicity_api.base import read_document
from toxicity_api.checksums import write_checksums
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_training.checkpoints import remove_leftovers
from toxicity_training.errors import InputError, ModelError, RankFailure
from toxicity_training.ranks import leader

RESULT_FILE = "result.json"
MODEL_FOLDER = "model"
TERMINATION_LOG = Path("/dev/termination-log")


def read_result(folder: Path) -> StageResult | None:
    """The result document of a stage folder; None when it is missing or damaged."""
    try:
        return read_document(StageResult, (folder / RESULT_FILE).read_bytes(), RESULT_FILE)
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def succeeded_result(folder: Path) -> StageResult | None:
    """The result document of a stage that has succeeded before; None otherwise."""
    result = read_result(folder)
    return result if result is not None and result.outcome == "succeeded" else None


def input_result(folder: Path) -> StageResult:
    """The result of the stage before. Raises ModelError when that has not succeeded."""
    result = succeeded_result(folder)
    if result is None:
        raise ModelError("InputMissing", f"{folder} holds no succeeded stage; run the stage before again")
    return result


def open_work_folder(final: Path) -> Path:
    """A fresh temporary folder beside `final`, for this attempt alone; abandoned ones are removed."""
    work = open_folder(final, leader(os.environ))
    remove_leftovers(final.parent, lambda folder: succeeded_result(folder) is not None, work.stat().st_mtime)
    keep_alive(work)
    return work


def publish(work: Path, final: Path, result: StageResult) -> StageResult:
    """Writes `result`, and the checksums of a model, into `work` and renames it to `final`; the result that is there.

    A folder left there by a failed attempt gives way. One in which another attempt has succeeded is kept, with its
    result, and `work` is removed.
    """
    if (work / MODEL_FOLDER).is_dir():
        write_checksums(work / MODEL_FOLDER)
    (work / RESULT_FILE).write_text(
        result.model_dump_json(by_alias=True, exclude_none=True, indent=1), encoding="utf-8"
    )
    if publish_folder(work, final, RESULT_FILE, says("outcome", "succeeded")):
        return result
    print(f"{final} is there already, by another attempt: it is kept, and this one's is removed", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return succeeded_result(final) or result


def report(result: StageResult, termination_log: Path) -> None:
    """Leaves the result where the kubelet picks it up, and prints it."""
    message = result.to_termination_message()
    termination_log.write_text(message, encoding="utf-8")
    print(f"result: {message}", flush=True)


def failed_result(stage: StageResult, error: BaseException, crash_reason: str) -> StageResult:
    """`stage` as a failure that says why; `crash_reason` serves where the error has no reason of its own."""
    if isinstance(error, InputError | RankFailure):
        reason, message = error.reason, str(error)
    elif is_out_of_memory(error):
        reason = "OutOfMemory"
        message = f"{type(error).__name__}: {error}; lower batchSize or the lengths, or raise the memory limit"
    else:
        reason, message = crash_reason, f"{type(error).__name__}: {error}"
    return stage.model_copy(update={"outcome": "failed", "reason": reason, "message": message})


def exit_code(error: BaseException) -> int:
    """The exit code of a stage that failed with `error`: whether a retry may help."""
    if isinstance(error, RankFailure):
        return error.exit_code
    return EXIT_INVALID_INPUT if isinstance(error, InputError) else EXIT_FAILED


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on the accelerator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def keep_failure(result: StageResult, final: Path) -> None:
    """Leaves the result of a failure as the only file of the stage's folder; a success there stays as it is."""
    if succeeded_result(final) is None:
        publish(open_work_folder(final), final, result)
