"""The learning-rate schedule and the progress lines of both engines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from toxicity_api.progress import Progress, progress_line
from toxicity_api.spec import TrainingSpec
from toxicity_training.engines.batches import count_steps

MAX_GRADIENT_NORM = 1.0
LINE_SECONDS = 10.0
LINE_SHARE = 0.1


def scheduler_name(spec: TrainingSpec) -> str:
    """The name of the spec's scheduler in Transformers."""
    return "constant_with_warmup" if spec.scheduler == "constant" else spec.scheduler


def warmup_steps(rows: int, spec: TrainingSpec, processes: int = 1) -> int:
    """The number of optimizer steps over which the learning rate rises to its peak."""
    return math.ceil(spec.warmup_ratio * count_steps(rows, spec, processes)[1])


@dataclass
class Reporter:
    """Logs a progress line every tenth of the steps, or every LINE_SECONDS if that is sooner, and at the end."""

    first: int
    steps: int
    say: Callable[[str], None]
    clock: Callable[[], float]
    losses: list[float] = field(default_factory=list)
    started: float = field(init=False)
    said: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.said = self.clock()

    def step_done(self, step: int, epoch: float, loss: float) -> None:
        """Records a finished step (counted from 1) and its mean loss."""
        self.losses.append(loss)
        now = self.clock()
        tenth = max(1, round(self.steps * LINE_SHARE))
        if step % tenth and step != self.steps and now - self.said < LINE_SECONDS:
            return
        self.said = now
        left = (now - self.started) / (step - self.first) * (self.steps - step)
        mean = sum(self.losses) / len(self.losses)
        self.losses.clear()
        self.say(
            progress_line(Progress(step=step, steps=self.steps, epoch=epoch, loss=mean, seconds_left=round(left)))
        )
