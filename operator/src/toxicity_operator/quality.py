"""The quality gate: may the model that the stages made be served? Pure, on recorded figures only."""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_api.conditions import Reason
from toxicity_api.spec import QualityGate
from toxicity_api.status import QuantizationStatus, TrainingStatus


@dataclass(frozen=True)
class Verdict:
    """`accepted` is None while a figure is missing."""

    accepted: bool | None
    reason: str
    message: str


def judge(gate: QualityGate, training: TrainingStatus | None, quantization: QuantizationStatus | None) -> Verdict:
    """The gate's verdict on the trained model and, when there is one, on the quantized model.

    `training` and `quantization` are the records of the current fingerprints, None while not succeeded; pass
    the training record alone to judge before quantization. Bounds are inclusive.
    """
    if training is None:
        return Verdict(None, Reason.WAITING, "waits for the training's figures")
    for record, word in ((training, "trained"), (quantization, "quantized")):
        refusal = record and _below_minimum(gate, record, word)
        if refusal:
            return refusal
    drop = _drop(gate, quantization)
    if gate.max_f1_drop is not None and drop > gate.max_f1_drop:
        text = f"quantization cost {drop:.4f} {gate.metric}, more than maxF1Drop {gate.max_f1_drop:.4f}"
        return Verdict(False, Reason.DROP_TOO_LARGE, text)
    return Verdict(True, Reason.ACCEPTED, _accepted(gate, training, quantization))


def _value(gate: QualityGate, record: TrainingStatus | QuantizationStatus) -> float:
    value = record.f1 if gate.metric == "toxicF1" else record.macro_f1
    return 0.0 if value is None else value


def _drop(gate: QualityGate, quantization: QuantizationStatus | None) -> float:
    if quantization is None:
        return 0.0
    drop = quantization.f1_drop if gate.metric == "toxicF1" else quantization.macro_f1_drop
    return 0.0 if drop is None else drop


def _below_minimum(gate: QualityGate, record: TrainingStatus | QuantizationStatus, word: str) -> Verdict | None:
    value = _value(gate, record)
    if gate.min_f1 is None or value >= gate.min_f1:
        return None
    text = f"the {word} model reached {gate.metric} {value:.4f}, below minF1 {gate.min_f1:.4f}"
    return Verdict(False, Reason.BELOW_MINIMUM, text)


def _accepted(gate: QualityGate, training: TrainingStatus, quantization: QuantizationStatus | None) -> str:
    after = f", {_value(gate, quantization):.4f} after quantization" if quantization else ""
    return f"{gate.metric} {_value(gate, training):.4f}{after}"
