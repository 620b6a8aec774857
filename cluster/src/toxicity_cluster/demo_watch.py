"""Follows a ToxicityModel until it is Ready or has failed, and prints each change once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from toxicity_api.base import PLURAL
from toxicity_api.conditions import ABNORMAL_TYPES, Condition, ConditionType, Reason
from toxicity_api.status import StageRecord, ToxicityModelStatus
from toxicity_cluster.demo_kubectl import Kubectl, Lasting, Manifest, wait_until
from toxicity_cluster.errors import ClusterError

POLL_SECONDS = 2.0
LOG_LINE_EVERY_SECONDS = 20.0
LOG_LINES = 40
LONGEST_LINE = 110
PULL_PATIENCE_SECONDS = 120.0
"""An image that cannot be pulled for so long ends the demo: only the user can give access to it."""

STEP_CONDITIONS = (
    ConditionType.TRAINED,
    ConditionType.QUANTIZED,
    ConditionType.EVALUATED,
    ConditionType.QUALITY_ACCEPTED,
    ConditionType.LOAD_TESTED,
)
PULLING_CONDITIONS = (*STEP_CONDITIONS, ConditionType.AVAILABLE)
PASSING_REASONS = (Reason.WAITING, Reason.RUNNING)
FINAL_REASONS = (Reason.INVALID_SPEC, Reason.INCONCLUSIVE, Reason.ROLLED_BACK, Reason.ROLL_OUT_FAILED)
"""Reasons that only a change of the spec can end, for any condition type and status."""


class ModelFailed(ClusterError):
    """A condition says that the model cannot become Ready."""


def status_of(model: Manifest) -> ToxicityModelStatus:
    """The typed status of a resource as the API server returned it."""
    return ToxicityModelStatus.model_validate(model.get("status", {}))


def current_conditions(model: Manifest) -> Sequence[Condition]:
    """The conditions of the current generation."""
    generation = model["metadata"]["generation"]
    return [c for c in status_of(model).conditions if c.observed_generation == generation]


def is_done(model: Manifest) -> bool:
    """Whether every condition has its good status for the current generation."""
    passed = {c.type for c in current_conditions(model) if c.status == good_status(c.type)}
    return passed == set(ConditionType)


def good_status(kind: ConditionType) -> str:
    """The status of this condition type for a model without problems."""
    return "False" if kind in ABNORMAL_TYPES else "True"


def failed_condition(model: Manifest) -> Condition | None:
    """The condition that keeps the model from becoming Ready, if there is one."""
    for condition in current_conditions(model):
        failed = condition.status == "False" and condition.reason not in PASSING_REASONS
        if failed and condition.type in STEP_CONDITIONS:
            return condition
        if condition.status != "True" and condition.reason in FINAL_REASONS:
            return condition
    return None


def pull_condition(model: Manifest) -> Condition | None:
    """The condition that waits for an image that cannot be pulled; its message says what to do."""
    waiting = (c for c in current_conditions(model) if c.status != "True" and c.type in PULLING_CONDITIONS)
    return next((c for c in waiting if re.search(r"\b(?:ErrImagePull|ImagePullBackOff)\b", c.message)), None)


def running_job(status: ToxicityModelStatus) -> str:
    """The name of the running stage Job whose progress is only in its log (training's is in its condition)."""
    records: tuple[StageRecord | None, ...] = (
        status.quantization,
        status.evaluation,
        status.load_test_job,
    )
    running = [r.job_name for r in records if r is not None and r.outcome == "Running"]
    return running[-1] if running else ""


def progress_line(log: Sequence[str]) -> str:
    """The last log line that is neither a warning of a library nor the result document."""
    informative = [line for line in log if line.strip() and "WARNING" not in line and '{"stage"' not in line]
    return informative[-1].strip() if informative else ""


@dataclass
class Watcher:
    """Prints what has changed since the last poll; its state is what it has printed."""

    kubectl: Kubectl
    namespace: str
    say: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    printed: dict[str, str] = field(default_factory=dict)
    logged_at: float = 0.0
    pull_fails: Lasting = field(default_factory=Lasting)

    def follow(self, name: str, deadline_seconds: float) -> Manifest:
        """Wait until the resource is done and return it. Raises ModelFailed or DeadlineExceeded with the reason."""
        left = deadline_seconds - (time.monotonic() - self.started)
        return wait_until(f"{name} is Ready", lambda: self._look(name), left, POLL_SECONDS)

    def _look(self, name: str) -> Manifest | None:
        model = self.kubectl.get(PLURAL, name, self.namespace)
        if model is None:
            raise ModelFailed(f"the ToxicityModel {name} was deleted")
        self.report(model)
        failed = failed_condition(model)
        if failed is not None:
            raise ModelFailed(f"{failed.type} is False: {failed.reason}: {failed.message}")
        pulling = pull_condition(model)
        seconds = self.pull_fails.seconds(pulling is not None)
        if pulling is not None and seconds > PULL_PATIENCE_SECONDS:
            raise ModelFailed(f"{pulling.type} is {pulling.status}: {pulling.message}")
        return model if is_done(model) else None

    def report(self, model: Manifest) -> None:
        """Print a line for a changed stage, for each changed condition and for the progress of the running Job."""
        status = status_of(model)
        self._print_once("stage", status.stage or "-")
        for condition in current_conditions(model):
            if condition.type == ConditionType.READY and condition.reason == Reason.RUNNING:
                continue  # it repeats what the condition of the running stage says
            if condition.type in ABNORMAL_TYPES:
                continue  # they repeat what Ready says
            text = f"{condition.status} {condition.reason}"
            self._print_once(str(condition.type), f"{text}: {condition.message}" if condition.message else text)
        job = running_job(status)
        if job and time.monotonic() - self.logged_at > LOG_LINE_EVERY_SECONDS:
            self.logged_at = time.monotonic()
            self._print_once("log", progress_line(self.kubectl.log_end(f"job/{job}", self.namespace, LOG_LINES)))

    def _print_once(self, subject: str, text: str) -> None:
        if not text or self.printed.get(subject) == text:
            return
        self.printed[subject] = text
        elapsed = time.monotonic() - self.started
        line = f"  {elapsed:7.1f} s  {subject:<16} {text}"
        self.say(line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…")
