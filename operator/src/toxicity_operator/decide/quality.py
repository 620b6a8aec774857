"""The quality gate: decides whether the model may be served, from the recorded metrics. Pure.

A bound is compared with the whole 95 % confidence interval of its metric. Before the evaluation in the serving engine a
model can only be refused. That evaluation decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.conditions import Reason
from toxicity_api.spec import QualityGate
from toxicity_api.status import EvaluationStatus, QualityFigures, QuantizationStatus, TrainingStatus

ALWAYS = "always"


@dataclass(frozen=True)
class Verdict:
    """The gate's decision. `accepted` is None if a metric is missing or the result is inconclusive."""

    accepted: bool | None
    reason: str
    message: str


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 % confidence interval; `low` and `high` equal `value` if no interval was recorded."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} (95 %: {self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Bound:
    """The result for one bound of the gate; `met` is None if the interval contains the bound."""

    met: bool | None
    reason: Reason
    message: str


def judge(
    gate: QualityGate,
    training: TrainingStatus | None,
    quantization: QuantizationStatus | None,
    evaluation: EvaluationStatus | None,
) -> Verdict:
    """The verdict on the records of the current fingerprints. A record is None until its stage has succeeded.

    Bounds are inclusive.
    """
    if training is None:
        return Verdict(None, Reason.WAITING, "waiting for the metrics of the training")
    for record, word in ((training, "the trained model"), (quantization, "the quantized model")):
        bound = record and evaluation is None and _minimum(gate, record, word)
        if bound and bound.met is False:
            return Verdict(False, bound.reason, bound.message)
    if evaluation is None:
        return Verdict(
            None,
            Reason.WAITING,
            f"waiting for the evaluation in the serving engine; so far {_so_far(gate, training)}",
        )
    return _decide(gate, evaluation)


def _decide(gate: QualityGate, evaluation: EvaluationStatus) -> Verdict:
    bounds = [bound for bound in (_minimum(gate, evaluation, "the model"), _drop(gate, evaluation)) if bound]
    missed = next((bound for bound in bounds if bound.met is False), None)
    if missed:
        return Verdict(False, missed.reason, missed.message)
    open_ = next((bound for bound in bounds if bound.met is None), None)
    if open_ is None:
        figures = "; ".join(bound.message for bound in bounds) or _so_far(gate, evaluation)
        return Verdict(True, Reason.ACCEPTED, figures)
    if gate.accept_inconclusive in (ALWAYS, evaluation.fingerprint):
        return Verdict(True, Reason.OVERRIDDEN, f"{open_.message}; accepted by qualityGate.acceptInconclusive")
    return Verdict(
        None,
        Reason.INCONCLUSIVE,
        f"{open_.message}: {evaluation.test_samples} test rows are too few to decide; add test rows, or accept this"
        f" model with qualityGate.acceptInconclusive: {evaluation.fingerprint}",
    )


def _minimum(gate: QualityGate, record: QualityFigures, word: str) -> Bound | None:
    if gate.min_f1 is None:
        return None
    figure = _figure(gate, record)
    met = True if figure.low >= gate.min_f1 else False if figure.high < gate.min_f1 else None
    relation = {True: "is at least", False: "is below", None: "has an interval that contains"}[met]
    text = f"{word}'s {gate.metric} {figure} {relation} minF1 {gate.min_f1:.4f}"
    return Bound(met, Reason.BELOW_MINIMUM, text)


def _drop(gate: QualityGate, evaluation: EvaluationStatus) -> Bound | None:
    drop = evaluation.drop
    if gate.max_f1_drop is None or drop is None:
        return None
    figure = (
        Figure(drop.f1_drop, drop.f1_drop_low, drop.f1_drop_high)
        if gate.metric == "toxicF1"
        else Figure(drop.macro_f1_drop, drop.macro_f1_drop_low, drop.macro_f1_drop_high)
    )
    met = True if figure.high <= gate.max_f1_drop else False if figure.low > gate.max_f1_drop else None
    relation = {True: "is at most", False: "exceeds", None: "has an interval that contains"}[met]
    text = f"the {gate.metric} drop by quantization {figure} {relation} maxF1Drop {gate.max_f1_drop:.4f}"
    return Bound(met, Reason.DROP_TOO_LARGE, text)


def _figure(gate: QualityGate, record: QualityFigures) -> Figure:
    value, low, high = (
        (record.f1, record.f1_low, record.f1_high)
        if gate.metric == "toxicF1"
        else (record.macro_f1, record.macro_f1_low, record.macro_f1_high)
    )
    value = 0.0 if value is None else value
    return Figure(value, value if low is None else low, value if high is None else high)


def _so_far(gate: QualityGate, record: QualityFigures) -> str:
    return f"{gate.metric} {_figure(gate, record)}"
