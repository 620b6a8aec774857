"""Progress of a running training: a line in the pod's log, which the operator reads and copies into the status.

A log line needs no credentials in the pod and no open port in the operator, and a lost line cannot stop a training.
Writer and reader share this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from pydantic import Field, field_validator

from toxicity_api.base import Document

# exact, with bounded digits: a log can contain any text, and a similar line must not fail the reader
_LINE = re.compile(
    r"progress: step (?P<step>\d{1,9})/(?P<steps>\d{1,9}), epoch (?P<epoch>\d{1,9}\.\d\d),"
    r" loss (?P<loss>\d{1,15}\.\d{4}|nan|inf), (?P<secondsLeft>\d{1,9}) s left$",
    re.ASCII,
)


class Progress(Document):
    step: int = Field(description="Last finished step.")
    steps: int = Field(description="Number of steps in total.")
    epoch: float = Field(description="Current epoch, with its fraction.")
    loss: float | None = Field(
        None, description="Mean training loss since the previous report. Unset while it is not finite."
    )
    seconds_left: int = Field(description="Estimated remaining time, in seconds.")

    @field_validator("loss")
    @classmethod
    def _finite(cls, loss: float | None) -> float | None:
        """Replace nan and inf by None. JSON has neither, so the API server would refuse the status."""
        return loss if loss is not None and math.isfinite(loss) else None


def progress_text(progress: Progress) -> str:
    """Format `progress` for people."""
    loss = "nan" if progress.loss is None else f"{progress.loss:.4f}"
    done = f"step {progress.step}/{progress.steps}, epoch {progress.epoch:.2f}"
    return f"{done}, loss {loss}, {progress.seconds_left} s left"


def progress_line(progress: Progress) -> str:
    """Format `progress` as a line of the log."""
    return f"progress: {progress_text(progress)}"


def read_progress(log: Iterable[str]) -> Progress | None:
    """Read the last progress line of `log`. Return None without one."""
    matches = [match for line in log if (match := _LINE.search(line.strip()))]
    return Progress.model_validate(matches[-1].groupdict()) if matches else None
