"""`quantization` and `qualityGate`: smaller weights, and the figures that a model must reach to be served."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, NonEmpty, Score
from toxicity_api.spec.pods import JobFields


class QuantizationSpec(JobFields):
    """Post-training quantization of the merged model's linear layers to 4 bit by AWQ."""

    method: Literal["awq", "none"] = Field("awq", description="method; `none` serves the merged weights.")
    backend: Literal["llm-compressor", "autoawq"] = Field(
        "llm-compressor",
        description="backend that runs AWQ: `llm-compressor` writes compressed-tensors W4A16, `autoawq` (AutoAWQ 0.2.9,"
        " no longer maintained, fewer architectures) its own format, quant_method awq. vLLM serves both.",
    )
    bits: Literal[4] = Field(4, description="bits per weight.")
    group_size: Literal[32, 64, 128] = Field(128, description="groupSize of weights that share a scale.")
    calibration_samples: int = Field(32, ge=8, le=1024, description="calibrationSamples from the training split.")
    calibration_length: int = Field(64, ge=16, le=4096, description="calibrationLength of each in tokens.")
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="runId: change it to quantize again, with an unchanged spec too.",
    )


class EvaluationSpec(Document):
    """Evaluation by the serving engine itself, in a Job with the pod fields of `serving`."""

    backoff_limit: int = Field(2, ge=0, le=INT32_MAX, description="backoffLimit: restarts of a crashed pod.")
    active_deadline_seconds: int = Field(
        7200, ge=60, le=INT32_MAX, description="activeDeadlineSeconds after which the Job has failed."
    )
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="runId: change it to evaluate again, with an unchanged spec too.",
    )


class QualityGate(Document):
    """The figures a model must reach before it may serve. Unset bounds do not gate.

    A bound is reached when the whole 95 % interval of the figure lies on its good side, and missed when it lies on
    the bad side; in between, the test split has too few rows to decide.
    """

    metric: Literal["toxicF1", "macroF1"] = Field("toxicF1", description="metric the bounds are about.")
    min_f1: Score | None = Field(None, description="minF1 the model to be served must reach on the test split.")
    max_f1_drop: Score | None = Field(None, description="maxF1Drop that quantization may cost.")
    accept_inconclusive: NonEmpty | None = Field(
        None,
        description="acceptInconclusive: fingerprint of the evaluation whose inconclusive model may serve all the same,"
        " as the condition QualityAccepted names it, or `always`. Unset means that such a model waits.",
    )
