"""A stage's output folder and its result document: written under a temporary name, then published.

A folder appears under its final name only when it is complete; `toxicity_api.attempts` describes how concurrent
attempts share a volume. The result document is written to the folder and to the container's termination message, from
which the operator reads it, also after a failure.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from pydantic import ValidationError

from toxicity_api.attempts import is_abandoned, keep_alive, open_folder, publish_folder, says
from toxicity_api.base import read_document
from toxicity_api.checksums import write_checksums
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_stage.errors import InputError, ModelError, RankFailure
from toxicity_stage.ranks import leader
from toxicity_store.errors import NO_SPACE, StoreError

RESULT_FILE = "result.json"
MODEL_FOLDER = "model"
TERMINATION_LOG = Path("/dev/termination-log")
CHECKPOINT_MARK = "complete"
"""File that the training writes into a checkpoint last."""

_CHECKPOINTS = re.compile(r"(?P<stage>train-[0-9a-f]+)\.checkpoints(?:-(?P<tag>.+))?")


def read_result(folder: Path) -> StageResult | None:
    """The result document of a stage folder; None if it is missing or damaged."""
    try:
        return parse_result((folder / RESULT_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def parse_result(content: bytes) -> StageResult | None:
    """The result document in `content`; None if it is damaged."""
    try:
        return read_document(StageResult, content, RESULT_FILE)
    except ValidationError:
        return None


def succeeded_result(folder: Path) -> StageResult | None:
    """The result document of a stage that has succeeded; None otherwise."""
    result = read_result(folder)
    return result if result is not None and result.outcome == "succeeded" else None


def input_result(folder: Path) -> StageResult:
    """The result of the previous stage. Raises ModelError unless that stage has succeeded."""
    result = succeeded_result(folder)
    if result is None:
        raise ModelError(
            "InputMissing", f"{folder} has no result of a succeeded stage; run the previous stage again"
        )
    return result


def checkpoints_of(final: Path, tag: str) -> Path:
    """The folder of the checkpoints of one attempt at a training, beside the stage's folder `final`."""
    return final.with_name(f"{final.name}.checkpoints-{tag}")


def open_work_folder(final: Path) -> Path:
    """Creates a temporary folder beside `final` for this attempt alone; removes abandoned ones."""
    work = open_folder(final, leader(os.environ))
    _remove_old_checkpoints(final.parent, work.stat().st_mtime)
    keep_alive(work)
    return work


def _remove_old_checkpoints(volume: Path, now: float) -> None:
    """Removes abandoned checkpoints of published trainings; another attempt may resume from those of the others."""
    for folder in volume.iterdir():
        match = _CHECKPOINTS.fullmatch(folder.name)
        if match is None or succeeded_result(volume / match["stage"]) is None:
            continue
        if is_abandoned(folder, match["tag"] or "", leader(os.environ), now):
            shutil.rmtree(folder, ignore_errors=True)


def publish(work: Path, final: Path, result: StageResult) -> StageResult:
    """Writes `result`, and the checksums of a model, into `work` and renames it to `final`; returns the result there.

    Replaces the folder of a failed attempt. If another attempt has succeeded, its folder and result are kept and
    `work` is removed.
    """
    if (work / MODEL_FOLDER).is_dir():
        write_checksums(work / MODEL_FOLDER)
    (work / RESULT_FILE).write_text(
        result.model_dump_json(by_alias=True, exclude_none=True, indent=1), encoding="utf-8"
    )
    if publish_folder(work, final, RESULT_FILE, says("outcome", "succeeded")):
        return result
    print(f"{final} was already published by another attempt and is kept; removing {work}", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return succeeded_result(final) or result


def report(result: StageResult, termination_log: Path) -> None:
    """Writes the result to the container's termination message and prints it."""
    message = result.to_termination_message()
    termination_log.write_text(message, encoding="utf-8")
    print(f"result: {message}", flush=True)


def failed_result(stage: StageResult, error: BaseException, crash_reason: str) -> StageResult:
    """`stage` as a failure caused by `error`; `crash_reason` is used if the error has no reason."""
    if isinstance(error, InputError | RankFailure | StoreError):
        reason, message = error.reason, str(error)
    elif is_volume_full(error):
        reason = "VolumeFull"
        message = (
            f"{type(error).__name__}: {error}; raise storage.size if the storage class has allowVolumeExpansion, else"
            " lower storage.keepVersions and set a new runId"
        )
    elif is_out_of_memory(error):
        reason = "OutOfMemory"
        message = f"{type(error).__name__}: {error}; lower batchSize or the lengths, or raise the memory limit"
    else:
        reason, message = crash_reason, f"{type(error).__name__}: {error}"
    return stage.model_copy(update={"outcome": "failed", "reason": reason, "message": message})


def exit_code(error: BaseException) -> int:
    """The exit code of a stage that failed with `error`; it says whether a retry may help."""
    if isinstance(error, RankFailure | StoreError):
        return error.exit_code
    return EXIT_INVALID_INPUT if isinstance(error, InputError) else EXIT_FAILED


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or the accelerator ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_volume_full(error: BaseException) -> bool:
    """Whether a file could not be written for lack of space, also as the cause of another error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return True
        cause = cause.__cause__ or cause.__context__
    # the writer of safetensors, in Rust, keeps the system's words only
    return "No space left on device" in str(error)


def keep_failure(result: StageResult, final: Path) -> None:
    """Publishes the result of a failure as the only file of the stage's folder, unless a success is there."""
    if succeeded_result(final) is None:
        publish(open_work_folder(final), final, result)
