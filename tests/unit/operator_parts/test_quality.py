"""The quality gate at and near its bounds, and with inconclusive intervals."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import drop_figures
from toxicity_api.results import DropFigures, HeldOutFigures
from toxicity_api.spec import HeldOutSet, QualityGate
from toxicity_api.status import EvaluationStatus, QuantizationStatus, TrainingStatus
from toxicity_operator.decide.quality import Verdict, judge


def gate(**fields: object) -> QualityGate:
    return QualityGate.model_validate(fields)


def trained(f1: float, spread: float = 0.0) -> TrainingStatus:
    return TrainingStatus(fingerprint="t", f1=f1, f1_low=f1 - spread, f1_high=f1 + spread, macro_f1=f1)


def quantized(f1: float, spread: float = 0.0) -> QuantizationStatus:
    return QuantizationStatus(fingerprint="q", f1=f1, f1_low=f1 - spread, f1_high=f1 + spread)


def evaluated(
    f1: float, spread: float = 0.0, drop: float | None = None, drop_spread: float = 0.0
) -> EvaluationStatus:
    return EvaluationStatus(
        fingerprint="e",
        f1=f1,
        f1_low=f1 - spread,
        f1_high=f1 + spread,
        macro_f1=f1 - 0.1,
        macro_f1_low=f1 - 0.1 - spread,
        macro_f1_high=f1 - 0.1 + spread,
        test_samples=70,
        drop=None if drop is None else drop_figures(drop, drop_spread),
    )


def decide(bounds: QualityGate, evaluation: EvaluationStatus) -> Verdict:
    return judge(bounds, trained(0.9), quantized(0.9), evaluation)


def test_nothing_is_decided_without_figures() -> None:
    assert judge(gate(minF1=0.5), None, None, None).accepted is None


@pytest.mark.parametrize(
    ("f1", "spread", "accepted"),
    [
        (0.8, 0.0, True), (0.7999, 0.0, False), (0.9, 0.0999, True), (0.9, 0.1001, None), (0.8, 0.05, None),
        (0.7, 0.1001, None), (0.7, 0.0999, False),
    ],
)  # fmt: skip
def test_minimum_is_held_against_the_whole_interval(f1: float, spread: float, accepted: bool | None) -> None:
    assert decide(gate(minF1=0.8), evaluated(f1, spread)).accepted is accepted


@pytest.mark.parametrize(
    ("drop", "spread", "accepted"),
    [
        (0.02, 0.0, True), (0.0201, 0.0, False), (-0.1, 0.0, True), (0.01, 0.0099, True), (0.01, 0.011, None),
        (0.05, 0.031, None), (0.05, 0.029, False),
    ],
)  # fmt: skip
def test_drop_is_held_against_the_whole_interval(drop: float, spread: float, accepted: bool | None) -> None:
    verdict = decide(gate(maxF1Drop=0.02), evaluated(0.9, drop=drop, drop_spread=spread))
    assert verdict.accepted is accepted


def test_a_bound_that_is_missed_outweighs_one_that_is_open() -> None:
    verdict = decide(gate(minF1=0.8, maxF1Drop=0.02), evaluated(0.8, 0.1, drop=0.5))
    assert (verdict.accepted, verdict.reason) == (False, "F1DropTooLarge")


def test_metric_chooses_the_figures() -> None:
    assert decide(gate(metric="macroF1", minF1=0.75), evaluated(0.8)).accepted is False
    assert decide(gate(metric="toxicF1", minF1=0.75), evaluated(0.8)).accepted is True


def test_without_bounds_every_evaluated_model_is_accepted_and_none_before() -> None:
    assert judge(gate(), trained(0.0), quantized(0.0), None).accepted is None
    assert decide(gate(), evaluated(0.0, drop=1.0)).accepted is True


@pytest.mark.parametrize("word", ["trained", "quantized"])
def test_hopeless_model_is_refused_before_it_is_evaluated(word: str) -> None:
    bad = judge(
        gate(minF1=0.85),
        trained(0.5 if word == "trained" else 0.9),
        quantized(0.5) if word == "quantized" else None,
        None,
    )
    assert (bad.accepted, bad.reason) == (False, "BelowMinimumF1")
    assert all(part in bad.message for part in (word, "toxicF1", "0.5000", "0.8500")), bad.message


def test_model_that_may_still_pass_is_evaluated() -> None:
    verdict = judge(gate(minF1=0.85), trained(0.8, 0.06), quantized(0.8, 0.06), None)
    assert (verdict.accepted, verdict.reason) == (None, "Waiting")


@pytest.mark.parametrize(
    ("override", "accepted", "reason"),
    [(None, None, "Inconclusive"), ("e", True, "AcceptedByOverride"), ("always", True, "AcceptedByOverride"),
     ("another", None, "Inconclusive")],
)  # fmt: skip
def test_inconclusive_model_waits_for_its_own_override(
    override: str | None, accepted: bool | None, reason: str
) -> None:
    verdict = decide(gate(minF1=0.8, acceptInconclusive=override), evaluated(0.8, 0.1))
    assert (verdict.accepted, verdict.reason) == (accepted, reason)


def test_inconclusive_message_names_figures_bound_rows_and_the_override() -> None:
    message = decide(gate(minF1=0.8), evaluated(0.8, 0.1)).message
    for part in ("0.8000", "0.7000 to 0.9000", "70 test rows", "qualityGate.acceptInconclusive: e"):
        assert part in message


def test_override_does_not_help_a_rejected_model() -> None:
    assert decide(gate(minF1=0.95, acceptInconclusive="always"), evaluated(0.8)).accepted is False


TOXIC_HARDLY_DROPS = DropFigures(
    f1_drop=0.01, f1_drop_low=0.005, f1_drop_high=0.015, macro_f1_drop=0.05, macro_f1_drop_low=0.04,
    macro_f1_drop_high=0.06, agreement=0.97,
)  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "maximum", "accepted", "words"),
    [
        ("toxicF1", 0.02, True, "toxicF1 drop by quantization 0.0100 (95 %: 0.0050 to 0.0150)"),
        ("macroF1", 0.02, False, "macroF1 drop by quantization 0.0500 (95 %: 0.0400 to 0.0600)"),
        ("macroF1", 0.05, None, "macroF1 drop by quantization 0.0500 (95 %: 0.0400 to 0.0600)"),
        ("macroF1", 0.06, True, "macroF1 drop by quantization 0.0500 (95 %: 0.0400 to 0.0600)"),
    ],
)
def test_maximum_drop_is_one_of_the_chosen_metric(
    metric: str, maximum: float, accepted: bool | None, words: str
) -> None:
    evaluation = evaluated(0.9).model_copy(update={"drop": TOXIC_HARDLY_DROPS})
    verdict = decide(gate(metric=metric, maxF1Drop=maximum), evaluation)
    assert verdict.accepted is accepted
    assert words in verdict.message


def test_bounds_of_an_interval_may_be_zero() -> None:
    """An interval that begins or ends at 0 is not one that was not recorded."""
    wide = EvaluationStatus(fingerprint="e", f1=0.6, f1_low=0.0, f1_high=0.9, test_samples=70)
    assert decide(gate(minF1=0.5), wide).accepted is None
    nothing = EvaluationStatus(fingerprint="e", f1=0.6, f1_low=0.0, f1_high=0.0, test_samples=70)
    assert decide(gate(minF1=0.5), nothing).accepted is False


def test_figure_without_an_interval_is_judged_by_itself() -> None:
    bare = EvaluationStatus(fingerprint="e", f1=0.6, macro_f1=0.4, test_samples=70)
    assert decide(gate(minF1=0.6), bare).accepted is True
    assert decide(gate(metric="macroF1", minF1=0.6), bare).accepted is False
    unknown = EvaluationStatus(fingerprint="e", test_samples=70)
    assert decide(gate(minF1=0.01), unknown).accepted is False


def test_minimum_of_zero_is_a_bound_and_reached() -> None:
    verdict = decide(gate(minF1=0.0), evaluated(0.6))
    assert verdict.accepted is True
    assert "is at least minF1 0.0000" in verdict.message


def test_maximum_drop_decides_nothing_without_quantization() -> None:
    verdict = decide(gate(maxF1Drop=0.0), evaluated(0.6))
    assert (verdict.accepted, verdict.message) == (True, "toxicF1 0.6000 (95 %: 0.6000 to 0.6000)")


def test_accepted_model_is_described_by_the_bounds_that_it_keeps() -> None:
    message = decide(gate(minF1=0.5, maxF1Drop=0.2), evaluated(0.9, drop=0.01)).message
    assert "is at least minF1 0.5000" in message
    assert "is at most maxF1Drop 0.2000" in message


def test_model_that_waits_for_its_evaluation_is_described_by_the_training() -> None:
    message = judge(gate(), trained(0.7), quantized(0.6), None).message
    assert "toxicF1 0.7000" in message


@pytest.mark.parametrize("metric", ["toxicF1", "macroF1"])
def test_refused_quantized_model_is_judged_by_the_chosen_metric(metric: str) -> None:
    record = QuantizationStatus(fingerprint="q", f1=0.9, macro_f1=0.4)
    verdict = judge(gate(metric=metric, minF1=0.5), trained(0.9), record, None)
    assert verdict.accepted is (False if metric == "macroF1" else None)


def test_bound_at_the_far_end_of_the_interval_is_neither_met_nor_missed() -> None:
    """The true figure may still be the bound itself, which is allowed."""
    touching = EvaluationStatus(fingerprint="e", f1=0.7, f1_low=0.6, f1_high=0.8, test_samples=70)
    assert decide(gate(minF1=0.8), touching).accepted is None
    costly = evaluated(0.9).model_copy(update={"drop": TOXIC_HARDLY_DROPS})
    assert decide(gate(maxF1Drop=0.005), costly).accepted is None
    assert decide(gate(maxF1Drop=0.0049), costly).accepted is False


def test_unknown_figure_counts_as_zero() -> None:
    message = judge(gate(), TrainingStatus(fingerprint="t"), None, None).message
    assert "toxicF1 0.0000 (95 %: 0.0000 to 0.0000)" in message


def distorted(
    record: type[TrainingStatus] | type[QuantizationStatus], f1: float | None, spread: float = 0.0
) -> Any:
    known = (
        {}
        if f1 is None
        else {"distorted_f1": f1, "distorted_f1_low": f1 - spread, "distorted_f1_high": f1 + spread}
    )
    return record(fingerprint="w", f1=0.9, **known)


@pytest.mark.parametrize(
    ("f1", "spread", "accepted"), [(0.8, 0.0, True), (0.7, 0.09, False), (0.8, 0.05, None), (0.9, 0.1, True)]
)
def test_minimum_on_distorted_rows_is_held_against_the_whole_interval(
    f1: float, spread: float, accepted: bool | None
) -> None:
    bounds, good = gate(minDistortedF1=0.8), distorted(QuantizationStatus, 0.95)
    assert judge(bounds, distorted(TrainingStatus, f1, spread), None, evaluated(0.9)).accepted is accepted
    of_quantized = judge(
        bounds, distorted(TrainingStatus, 0.1), distorted(QuantizationStatus, f1, spread), evaluated(0.9)
    )
    assert of_quantized.accepted is accepted, "the quantized weights are those to be served"
    assert judge(bounds, distorted(TrainingStatus, f1, spread), good, evaluated(0.9)).accepted is True


def test_weights_that_certainly_miss_it_on_distorted_rows_are_not_evaluated() -> None:
    verdict = judge(gate(minDistortedF1=0.8), distorted(TrainingStatus, 0.5, 0.1), None, None)
    assert (verdict.accepted, verdict.reason) == (False, "BelowMinimumF1")
    assert "distortedF1 0.5000 (95 %: 0.4000 to 0.6000) is below minDistortedF1 0.8000" in verdict.message


@pytest.mark.parametrize(("quantized_too", "field"), [(True, "quantization.runId"), (False, "training.runId")])
def test_weights_of_a_release_that_did_not_distort_are_inconclusive_with_the_remedy(
    quantized_too: bool, field: str
) -> None:
    record = distorted(QuantizationStatus, None) if quantized_too else None
    assert judge(gate(minDistortedF1=0.8), distorted(TrainingStatus, None), None, None).accepted is None
    verdict = judge(gate(minDistortedF1=0.8), distorted(TrainingStatus, None), record, evaluated(0.9))
    assert (verdict.accepted, verdict.reason) == (None, "Inconclusive")
    assert f"change {field} to make it again" in verdict.message


def on_forum(f1: float, spread: float = 0.0) -> HeldOutFigures:
    return HeldOutFigures(
        name="forum", rows=210, left_out=4, f1=f1, f1_low=f1 - spread, f1_high=f1 + spread, macro_f1=f1 - 0.1,
        macro_f1_low=f1 - 0.1 - spread, macro_f1_high=f1 - 0.1 + spread, roc_auc=0.8,
    )  # fmt: skip


def decide_on(found: list[HeldOutFigures], minimum: float | None = 0.6, **bounds: Any) -> Verdict:
    wanted = HeldOutSet.model_validate({"name": "forum", "configMap": {"name": "f", "key": "k"}, "minF1": minimum})
    evaluation = evaluated(0.9).model_copy(update={"test_sets": found})
    return judge(gate(**bounds), trained(0.9), quantized(0.9), evaluation, [wanted])


@pytest.mark.parametrize(("f1", "spread", "accepted"), [(0.6, 0.0, True), (0.5, 0.09, False), (0.6, 0.05, None)])
def test_minimum_on_a_test_set_names_the_set_the_figure_and_the_field(
    f1: float, spread: float, accepted: bool | None
) -> None:
    verdict = decide_on([on_forum(0.9).model_copy(update={"name": "other"}), on_forum(f1, spread)])
    assert verdict.accepted is accepted
    for words in (f"toxicF1 on test set forum {f1:.4f}", "evaluation.testSets[forum].minF1 0.6000"):
        assert words in verdict.message


def test_test_set_with_too_few_rows_says_where_to_add_some() -> None:
    message = decide_on([on_forum(0.6, 0.1)]).message
    assert "the 210 rows of test set forum are too few to decide; add rows to it" in message
    assert "qualityGate.acceptInconclusive: e" in message


def test_test_set_is_judged_by_the_chosen_metric_and_only_with_a_bound() -> None:
    assert decide_on([on_forum(0.65)], metric="macroF1").accepted is False
    assert decide_on([on_forum(0.65)], metric="toxicF1").accepted is True
    assert decide_on([on_forum(0.1)], minimum=None).accepted is True
    assert decide_on([on_forum(0.1)], minimum=0.0).accepted is True


def test_evaluation_without_the_test_set_is_inconclusive_with_the_remedy() -> None:
    verdict = decide_on([], acceptInconclusive=None)
    assert (verdict.accepted, verdict.reason) == (None, "Inconclusive")
    assert "no figures for evaluation.testSets[forum].minF1" in verdict.message
    assert "change evaluation.runId" in verdict.message
    assert decide_on([], acceptInconclusive="always").accepted is True
