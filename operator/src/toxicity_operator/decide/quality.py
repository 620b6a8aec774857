"""The quality gate: decides whether the model may be served, from the recorded metrics. Pure.

A bound is compared with the whole 95 % confidence interval of its metric. Before the evaluation in the serving engine a
model can only be refused. That evaluation decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toxicity_api.conditions import Reason
from toxicity_api.results import HeldOutFigures
from toxicity_api.spec import HeldOutSet, QualityGate
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
    """The result for one bound of the gate; `met` is None if the interval contains the bound.

    `remedy` is what decides an open bound, if that is not more test rows.
    """

    met: bool | None
    reason: Reason
    message: str
    remedy: str = ""


def judge(
    gate: QualityGate,
    training: TrainingStatus | None,
    quantization: QuantizationStatus | None,
    evaluation: EvaluationStatus | None,
    held_out: Sequence[HeldOutSet] = (),
) -> Verdict:
    """The verdict on the records of the current fingerprints. A record is None until its stage has succeeded.

    Bounds are inclusive. `held_out` are the test sets of the evaluation, with their bounds.
    """
    if training is None:
        return Verdict(None, Reason.WAITING, "waiting for the metrics of the training")
    weights = quantization or training
    for record, word in ((training, "the trained model"), (quantization, "the quantized model")):
        if record is None or evaluation is not None:
            continue
        for bound in (_minimum(gate, record, word), _distorted(gate, record)):
            if bound and bound.met is False:
                return Verdict(False, bound.reason, bound.message)
    if evaluation is None:
        return Verdict(
            None,
            Reason.WAITING,
            f"waiting for the evaluation in the serving engine; so far {_so_far(gate, training)}",
        )
    every = (
        _minimum(gate, evaluation, "the model"),
        _drop(gate, evaluation),
        _distorted(gate, weights),
        *(_on_held_out(gate, each, evaluation.test_sets) for each in held_out),
    )
    return _decide(gate, evaluation, [bound for bound in every if bound])


def _decide(gate: QualityGate, evaluation: EvaluationStatus, bounds: Sequence[Bound]) -> Verdict:
    missed = next((bound for bound in bounds if bound.met is False), None)
    if missed:
        return Verdict(False, missed.reason, missed.message)
    open_ = next((bound for bound in bounds if bound.met is None), None)
    if open_ is None:
        figures = "; ".join(bound.message for bound in bounds) or _so_far(gate, evaluation)
        return Verdict(True, Reason.ACCEPTED, figures)
    if gate.accept_inconclusive in (ALWAYS, evaluation.fingerprint):
        return Verdict(True, Reason.OVERRIDDEN, f"{open_.message}; accepted by qualityGate.acceptInconclusive")
    remedy = open_.remedy or f"{evaluation.test_samples} test rows are too few to decide; add test rows"
    return Verdict(
        None,
        Reason.INCONCLUSIVE,
        f"{open_.message}: {remedy}, or accept this model with qualityGate.acceptInconclusive:"
        f" {evaluation.fingerprint}",
    )


def _minimum(gate: QualityGate, record: QualityFigures, word: str) -> Bound | None:
    if gate.min_f1 is None:
        return None
    return _at_least(f"{word}'s {gate.metric}", _figure(gate, record), "minF1", gate.min_f1)


def _at_least(subject: str, figure: Figure, field: str, minimum: float, remedy: str = "") -> Bound:
    met = True if figure.low >= minimum else False if figure.high < minimum else None
    relation = {True: "is at least", False: "is below", None: "has an interval that contains"}[met]
    return Bound(met, Reason.BELOW_MINIMUM, f"{subject} {figure} {relation} {field} {minimum:.4f}", remedy)


def _distorted(gate: QualityGate, record: TrainingStatus | QuantizationStatus) -> Bound | None:
    """The bound on the distorted test rows, which the stage that made the weights has scored."""
    if gate.min_distorted_f1 is None:
        return None
    value, low, high = record.distorted_f1, record.distorted_f1_low, record.distorted_f1_high
    if value is None:
        stage = "quantization" if isinstance(record, QuantizationStatus) else "training"
        remedy = f"it was made by a release that did not measure it; change {stage}.runId to make it again"
        return Bound(None, Reason.BELOW_MINIMUM, "the model has no distortedF1 for minDistortedF1", remedy)
    figure = Figure(value, value if low is None else low, value if high is None else high)
    return _at_least("the model's distortedF1", figure, "minDistortedF1", gate.min_distorted_f1)


def _on_held_out(gate: QualityGate, wanted: HeldOutSet, found: Sequence[HeldOutFigures]) -> Bound | None:
    if wanted.min_f1 is None:
        return None
    field = f"evaluation.testSets[{wanted.name}].minF1"
    on_set = next((each for each in found if each.name == wanted.name), None)
    if on_set is None:
        remedy = "use a serving image of the operator's release and change evaluation.runId to evaluate again"
        return Bound(None, Reason.BELOW_MINIMUM, f"the evaluation has no figures for {field}", remedy)
    figure = (
        Figure(on_set.f1, on_set.f1_low, on_set.f1_high)
        if gate.metric == "toxicF1"
        else Figure(on_set.macro_f1, on_set.macro_f1_low, on_set.macro_f1_high)
    )
    remedy = f"the {on_set.rows} rows of test set {wanted.name} are too few to decide; add rows to it"
    return _at_least(f"the model's {gate.metric} on test set {wanted.name}", figure, field, wanted.min_f1, remedy)


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
