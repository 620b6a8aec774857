"""The curves of a training while it runs: event files for TensorBoard, and a run on an MLflow server.

Only the main process records. A training that resumes continues its curves. A server that does not answer costs the
training some seconds and the rest of that run, never the training.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from toxicity_api.fingerprint import WITHOUT_INFLUENCE
from toxicity_api.results import Metrics
from toxicity_api.spec import Mlflow, TrainingSpec
from toxicity_api.stage_config import TrainingConfig

TENSORBOARD_FOLDER = "tensorboard"
TRAINING_LOSS, VALIDATION_LOSS, LEARNING_RATE = "train/loss", "validation/loss", "train/learning_rate"
FIGURES = (
    "f1",
    "macro_f1",
    "precision",
    "recall",
    "roc_auc",
    "pr_auc",
    "threshold",
    "distorted_f1",
    "misspelled_f1",
)
"""Metrics of the test split that are recorded after the training, as `test/<name>`."""
FLUSH_SECONDS = 10.0
MLFLOW_DEFAULTS = {
    # by default it waits up to 120 s for each of eight attempts, and the training would stand still
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
FINGERPRINT_TAG = "toxicity.fingerprint"
MAX_BATCH = 1000
"""Number of values that an MLflow server accepts in one request."""


@dataclass(frozen=True)
class Value:
    """A point of a curve. `step` counts from 1, `time` is in seconds since 1970."""

    name: str
    step: int
    value: float
    time: float


class Tracker(Protocol):
    """Where curves are recorded. Every method can raise TrackerError."""

    def start(self, before: Sequence[Value]) -> None:
        """Called once, first. `before` are the values of earlier attempts of this training."""

    def record(self, values: Sequence[Value]) -> None: ...

    def end(self, succeeded: bool) -> None:
        """Called once, last."""


class TrackerError(Exception):
    """A tracker does not work. The message names the field and the reason."""


class Tracking:
    """The trackers of a training, each until it fails. As a context, it ends their runs."""

    def __init__(
        self, trackers: Iterable[Tracker], say: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._wanted = list(trackers)
        self._trackers: list[Tracker] = []
        self._say = say
        self._clock = clock
        self._waiting: list[Value] = []
        self._flushed = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._flush()
        self._each(lambda tracker: tracker.end(kind is None))

    def start(self, losses: Sequence[float], validations: Mapping[int, float]) -> None:
        """Call before the first step of a process, with the losses of the steps before and the validations by step."""
        before = [self._value(TRAINING_LOSS, step, loss) for step, loss in enumerate(losses, start=1)]
        before += [self._value(VALIDATION_LOSS, step, loss) for step, loss in validations.items()]
        self._trackers = self._wanted
        self._each(lambda tracker: tracker.start(before))

    def step_done(self, step: int, loss: float, learning_rate: float, validation_loss: float | None) -> None:
        """Records a finished step, and the validation after it if there was one; at most every FLUSH_SECONDS."""
        self._waiting.append(self._value(TRAINING_LOSS, step, loss))
        self._waiting.append(self._value(LEARNING_RATE, step, learning_rate))
        if validation_loss is not None:
            self._waiting.append(self._value(VALIDATION_LOSS, step, validation_loss))
        if self._clock() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def evaluated(self, metrics: Metrics, step: int) -> None:
        """Records the metrics of the test split after the last step."""
        figures = {name: getattr(metrics, name) for name in FIGURES}
        self._waiting += [
            self._value(f"test/{name}", step, value) for name, value in figures.items() if value is not None
        ]

    def _value(self, name: str, step: int, value: float) -> Value:
        return Value(name, step, value, self._clock())

    def _flush(self) -> None:
        values, self._waiting, self._flushed = self._waiting, [], self._clock()
        self._each(lambda tracker: tracker.record(values))

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                act(tracker)
            except TrackerError as error:
                self._trackers.remove(tracker)
                self._say(f"{error}; the training goes on without it")


class TensorBoard:
    """Event files in a folder, which `tensorboard --logdir` shows while they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, before: Sequence[Value]) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), flush_secs=1)
        self.record(before)

    def record(self, values: Sequence[Value]) -> None:
        for value in values:
            self._writer.add_scalar(value.name, value.value, value.step, walltime=value.time)

    def end(self, succeeded: bool) -> None:
        self._writer.close()


class MlflowRun:
    """A run on an MLflow server. A training that resumes finds its run by the tag with its fingerprint."""

    def __init__(self, spec: Mlflow, name: str, fingerprint: str, parameters: Mapping[str, str]) -> None:
        self._spec = spec
        self._name = name
        self._fingerprint = fingerprint
        self._parameters = parameters

    def start(self, before: Sequence[Value]) -> None:
        for name, value in MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        self._call(self._open_run, before)

    def record(self, values: Sequence[Value]) -> None:
        self._call(self._log, values)

    def end(self, succeeded: bool) -> None:
        self._call(self._client.set_terminated, self._run, "FINISHED" if succeeded else "FAILED")

    def _open_run(self, before: Sequence[Value]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(self._spec.tracking_uri)
        experiment = self._experiment()
        unfinished = f"tags.`{FINGERPRINT_TAG}` = '{self._fingerprint}' and attributes.status != 'FINISHED'"
        found = self._client.search_runs([experiment], unfinished, max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {FINGERPRINT_TAG: self._fingerprint}
        self._run = self._client.create_run(experiment, tags=tags, run_name=self._name).info.run_id
        parameters = [Param(name, value) for name, value in self._parameters.items()]
        self._client.log_batch(self._run, params=parameters, synchronous=True)
        self._log(before)

    def _experiment(self) -> str:
        """The ID of the experiment, which another training may create at the same moment."""
        from mlflow.exceptions import MlflowException

        name = self._spec.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _log(self, values: Sequence[Value]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(value.name, value.value, round(value.time * 1000), value.step) for value in values]
        for first in range(0, len(metrics), MAX_BATCH):
            self._client.log_batch(self._run, metrics=metrics[first : first + MAX_BATCH], synchronous=True)

    def _call(self, call: Callable[..., Any], *arguments: object) -> None:
        from mlflow.exceptions import MlflowException

        try:
            call(*arguments)
        except MlflowException as error:
            reason = " ".join(str(error).split())
            raise TrackerError(
                f"training.tracking.mlflow: {self._spec.tracking_uri} does not record: {reason}"
            ) from error


def open_tracking(config: TrainingConfig, work: Path | None, say: Callable[[str], None]) -> Tracking:
    """The trackers that the spec wants, in the process that has a `work` folder; none in the others."""
    wanted = config.training.tracking
    trackers: list[Tracker] = []
    if work is not None and wanted.tensor_board:
        trackers.append(TensorBoard(work / TENSORBOARD_FOLDER))
    if work is not None and wanted.mlflow is not None:
        parameters = parameters_of(config.training)
        trackers.append(MlflowRun(wanted.mlflow, config.model, config.fingerprint, parameters))
    return Tracking(trackers, say)


def parameters_of(spec: TrainingSpec) -> dict[str, str]:
    """The fields that determine the result, as `lora.r`: text as it is, and everything else as JSON."""
    document = spec.model_dump(mode="json", by_alias=True, exclude=set(WITHOUT_INFLUENCE))
    return dict(_flat("", document))


def _flat(prefix: str, document: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
