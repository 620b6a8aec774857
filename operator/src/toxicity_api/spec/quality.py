"""`quantization` and `qualityGate`: smaller weights, and the figures that a model must reach to be served."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import Score
from toxicity_api.spec.pods import JobFields


class QuantizationSpec(JobFields):
    """Post-training quantization of the merged model's linear layers to 4 bit by AWQ."""

    method: Literal["awq", "none"] = Field("awq", description="method; `none` serves the merged weights.")
    backend: Literal["llm-compressor"] = Field(
        "llm-compressor", description="backend that runs AWQ; writes compressed-tensors W4A16."
    )
    bits: Literal[4] = Field(4, description="bits per weight.")
    group_size: Literal[32, 64, 128] = Field(128, description="groupSize of weights that share a scale.")
    calibration_samples: int = Field(32, ge=8, le=1024, description="calibrationSamples from the training split.")
    calibration_length: int = Field(64, ge=16, le=4096, description="calibrationLength of each in tokens.")


class QualityGate(Document):
    """The figures a model must reach before it may serve. Unset bounds do not gate."""

    metric: Literal["toxicF1", "macroF1"] = Field("toxicF1", description="metric the bounds are about.")
    min_f1: Score | None = Field(None, description="minF1 the model to be served must reach on the test split.")
    max_f1_drop: Score | None = Field(None, description="maxF1Drop that quantization may cost.")
