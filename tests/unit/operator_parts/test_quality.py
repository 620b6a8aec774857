"""The quality gate at and around its bounds."""

from __future__ import annotations

import pytest

from toxicity_api.spec import QualityGate
from toxicity_api.status import QuantizationStatus, TrainingStatus
from toxicity_operator.quality import judge


def gate(**fields: object) -> QualityGate:
    return QualityGate.model_validate(fields)


def trained(f1: float, macro: float = 0.5) -> TrainingStatus:
    return TrainingStatus(fingerprint="t", f1=f1, macro_f1=macro)


def quantized(f1: float, drop: float, macro_drop: float = 0.0) -> QuantizationStatus:
    return QuantizationStatus(fingerprint="q", f1=f1, macro_f1=f1, f1_drop=drop, macro_f1_drop=macro_drop)


def test_nothing_is_decided_without_figures() -> None:
    assert judge(gate(minF1=0.5), None, None).accepted is None


@pytest.mark.parametrize(("f1", "accepted"), [(0.8, True), (0.8001, True), (0.7999, False)])
def test_minimum_is_inclusive(f1: float, accepted: bool) -> None:
    assert judge(gate(minF1=0.8), trained(f1), None).accepted is accepted
    assert judge(gate(minF1=0.8), trained(0.9), quantized(f1, 0.0)).accepted is accepted


@pytest.mark.parametrize(("drop", "accepted"), [(0.02, True), (0.0201, False), (-0.1, True)])
def test_drop_is_inclusive_and_a_gain_is_welcome(drop: float, accepted: bool) -> None:
    verdict = judge(gate(maxF1Drop=0.02), trained(0.9), quantized(0.9, drop))
    assert verdict.accepted is accepted


def test_metric_chooses_the_figures() -> None:
    macro = gate(metric="macroF1", minF1=0.6, maxF1Drop=0.1)
    assert judge(macro, trained(0.9, macro=0.5), None).accepted is False
    assert judge(macro, trained(0.1, macro=0.7), quantized(0.65, drop=0.9, macro_drop=0.05)).accepted is True


def test_unset_bounds_accept_everything() -> None:
    assert judge(gate(), trained(0.0), quantized(0.0, 1.0)).accepted is True


def test_message_names_the_figure_and_the_bound() -> None:
    verdict = judge(gate(minF1=0.85), trained(0.9), quantized(0.8, 0.1))
    assert verdict.reason == "BelowMinimumF1"
    assert all(word in verdict.message for word in ("quantized", "toxicF1", "0.8000", "0.8500"))
