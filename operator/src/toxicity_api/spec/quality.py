"""`quantization`, `evaluation` and `qualityGate`: smaller weights, and the figures a model must reach to serve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import INT32_MAX, NonEmpty, Score
from toxicity_api.spec.pods import JobFields
from toxicity_api.spec.sources import LabelledFile

MAX_TEST_SETS = 5
"""Number of test sets, whose figures must fit into a termination message."""


class QuantizationSpec(JobFields):
    """Post-training quantization (AWQ) of the merged model's linear layers to 4 bit."""

    method: Literal["awq", "none"] = Field(
        "awq", description="Quantization method. `none` serves the merged weights."
    )
    backend: Literal["llm-compressor", "autoawq"] = Field(
        "llm-compressor",
        description="Library that runs AWQ. `llm-compressor` writes compressed-tensors W4A16. `autoawq` (AutoAWQ"
        " 0.2.9, unmaintained, fewer architectures) writes its own format, quant_method awq. vLLM serves"
        " both.",
    )
    bits: Literal[4] = Field(4, description="Bits per weight.")
    group_size: Literal[32, 64, 128] = Field(128, description="Number of weights that share a scale.")
    calibration_samples: int = Field(
        32, ge=8, le=1024, description="Number of calibration prompts, drawn from the training split."
    )
    calibration_length: int = Field(
        64, ge=16, le=4096, description="Maximum length of a calibration prompt, in tokens."
    )
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="Identifier of the run. Change it to quantize again with an unchanged spec.",
    )


class ThresholdSpec(Document):
    """Choice of the threshold of the score, on the validation split."""

    maximize: Literal["toxicF1", "macroF1"] | None = Field(
        None,
        description="Metric that the threshold maximizes: F1 of the toxic class, or the mean of both classes' F1."
        " Unset means qualityGate.metric.",
    )
    min_precision: Score | None = Field(
        None,
        description="Lowest precision of the toxic class that the threshold must reach on the validation split, from 0"
        " to 1. If no threshold reaches it, the evaluation fails. Unset means no bound.",
    )
    min_recall: Score | None = Field(
        None,
        description="Lowest recall of the toxic class that the threshold must reach on the validation split, from 0 to"
        " 1. If no threshold reaches it, the evaluation fails. Unset means no bound.",
    )


class HeldOutSet(LabelledFile):
    """Comments of another source, which only the evaluation reads: CSV, TSV or JSON lines, plain or gzip."""

    name: str = Field(
        min_length=1,
        max_length=20,
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Name of the test set in the status, in messages and of its files.",
    )
    min_f1: Score | None = Field(
        None,
        description="Lowest F1 on the test set, from 0 to 1, with which a model may serve. It applies to"
        " qualityGate.metric. Unset means no bound. A change does not evaluate again.",
    )


class EvaluationSpec(Document):
    """Evaluation by the serving engine, in a Job with the pod fields of `serving`."""

    backoff_limit: int = Field(
        2, ge=0, le=INT32_MAX, description="Number of retries of a failed pod. Invalid input is never retried."
    )
    active_deadline_seconds: int = Field(
        7200, ge=60, le=INT32_MAX, description="Duration of the Job, in seconds, after which it fails."
    )
    threshold: ThresholdSpec = Field(
        default_factory=ThresholdSpec, description="Choice of the threshold that the service uses."
    )
    test_sets: list[HeldOutSet] = Field(
        default_factory=list,
        max_length=MAX_TEST_SETS,
        description="Further test sets, scored before and after quantization. They are never trained on: rows whose"
        " text is among the training or validation rows are left out. Each row takes as long as one of the test split.",
    )
    run_id: str = Field(
        "1",
        min_length=1,
        max_length=63,
        description="Identifier of the run. Change it to evaluate again with an unchanged spec.",
    )


class QualityGate(Document):
    """The figures that a model must reach before it may serve. An unset bound is not checked.

    A bound is met if the whole 95 % interval of the figure meets it, and missed if the whole interval misses it.
    Otherwise the result is inconclusive: the test split has too few rows to decide.
    """

    metric: Literal["toxicF1", "macroF1"] = Field(
        "toxicF1",
        description="Metric that the bounds apply to: F1 of the toxic class, or the mean of both classes' F1.",
    )
    min_f1: Score | None = Field(
        None,
        description="Lowest F1 on the test split, from 0 to 1, with which a model may serve. Unset means no bound.",
    )
    max_f1_drop: Score | None = Field(
        None,
        description="Largest drop in F1 by quantization, from 0 to 1, with which a model may serve. Unset means no"
        " bound.",
    )
    min_distorted_f1: Score | None = Field(
        None,
        description="Lowest F1 of the toxic class on the test split with spelling that evades filters (distortedF1 of"
        " the quantization, or of the training without one), from 0 to 1, with which a model may serve. Unset means no"
        " bound.",
    )
    accept_inconclusive: NonEmpty | None = Field(
        None,
        description="Fingerprint of the evaluation whose inconclusive model may serve, as the condition"
        " QualityAccepted names it, or `always`. Unset means that such a model does not serve.",
    )
