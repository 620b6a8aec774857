"""Quantization builds prompts as the training did."""

from __future__ import annotations

import pytest

from support.builders import metrics
from toxicity_api.results import TrainingResult
from toxicity_api.spec import TrainingSpec
from toxicity_quantization.stage import resolved


@pytest.mark.parametrize(("recorded", "used"), [(None, 0), (1, 1)])
def test_normal_form_is_that_of_the_training_and_not_the_newest(recorded: int | None, used: int) -> None:
    trained = TrainingResult(
        metrics=metrics(),
        train_samples=9,
        loss=0.3,
        duration_seconds=1.0,
        max_input_length=96,
        normal_form=recorded,
    )
    spec = resolved(TrainingSpec(max_input_length="auto"), trained)
    assert (spec.prompt_format.normal_form, spec.max_input_tokens) == (used, 96)
