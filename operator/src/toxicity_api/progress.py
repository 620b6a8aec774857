"""How far a running training is: one line of the pod's log, which the operator reads back into the status.

A log line needs no credentials in the pod and no open port in the operator, and a report that gets lost cannot
stop a training. Writer and reader are here, so that they cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import Field

from toxicity_api.base import Document

_LINE = re.compile(
    r"progress: step (?P<step>\d+)/(?P<steps>\d+), epoch (?P<epoch>[\d.]+), loss (?P<loss>[\d.]+|nan|inf),"
    r" (?P<secondsLeft>\d+) s left$"
)


class Progress(Document):
    step: int = Field(description="step that was finished last.")
    steps: int = Field(description="steps in all.")
    epoch: float = Field(description="epoch, with its fraction.")
    loss: float = Field(description="loss: mean over the steps since the line before.")
    seconds_left: int = Field(description="secondsLeft, estimated from the steps so far.")


def progress_line(progress: Progress) -> str:
    """The line of the log that stands for `progress`."""
    return (
        f"progress: step {progress.step}/{progress.steps}, epoch {progress.epoch:.2f}, loss {progress.loss:.4f},"
        f" {progress.seconds_left} s left"
    )


def read_progress(log: Iterable[str]) -> Progress | None:
    """What the last progress line of `log` says; None when there is none."""
    matches = [match for line in log if (match := _LINE.search(line.strip()))]
    return Progress.model_validate(matches[-1].groupdict()) if matches else None
