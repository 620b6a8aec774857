"""Length buckets, conditions and the result document."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxicity_api.buckets import length_buckets
from toxicity_api.conditions import Condition, ConditionType, set_condition
from toxicity_api.results import TERMINATION_MESSAGE_LIMIT, StageResult
from toxicity_api.stage_config import TrainingConfig, parse_stage_config


@pytest.mark.parametrize(("step", "maximum", "count"), [(100, 1100, 11), (100, 250, 3), (50, 10, 1), (1, 3, 3)])
def test_every_length_up_to_the_maximum_has_exactly_one_bucket(step: int, maximum: int, count: int) -> None:
    buckets = length_buckets(step, maximum)
    assert len(buckets) == count
    for length in range(1, maximum + 1):
        assert sum(bucket.holds(length) for bucket in buckets) == 1
    assert not any(bucket.holds(length) for bucket in buckets for length in (0, maximum + 1))


def condition(status: str, time: str, reason: str = "Because") -> Condition:
    return Condition.model_validate(
        {
            "type": ConditionType.TRAINED,
            "status": status,
            "reason": reason,
            "observedGeneration": 1,
            "lastTransitionTime": time,
        }
    )


def test_transition_time_moves_only_with_the_status() -> None:
    first = set_condition([], condition("Unknown", "t1"))
    same = set_condition(first, condition("Unknown", "t2", "Other"))
    changed = set_condition(same, condition("True", "t3"))
    assert [(c.reason, c.last_transition_time) for c in same] == [("Other", "t1")]
    assert [(c.status, c.last_transition_time) for c in changed] == [("True", "t3")]


@pytest.mark.parametrize("length", [0, 10, 3000, 10_000, 100_000])
@pytest.mark.parametrize("character", ["a", "я", "\n", '"', "🙂"])
def test_termination_message_fits_and_stays_json(length: int, character: str) -> None:
    result = StageResult(
        stage="train", fingerprint="f", outcome="failed", reason="DatasetError", message=character * length
    )
    text = result.to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    assert json.loads(text)["reason"] == "DatasetError"
    whole = json.loads(text)["message"] == result.message
    assert whole or len(text.encode()) > TERMINATION_MESSAGE_LIMIT - 12, "what fits is kept"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(3000, 5000))
def test_long_message_is_cut_no_further_than_the_limit_asks(part: str, size: int) -> None:
    message = part * (size // len(part.encode()) + 1)
    result = StageResult(
        stage="train", fingerprint="f" * 12, outcome="failed", reason="InvalidLabel", message=message
    )
    text = result.to_termination_message()
    kept = json.loads(text)["message"]
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    assert kept == message or (kept[-1] == "…" and message.startswith(kept[:-1]))
    assert kept == message or len(json.dumps(kept, ensure_ascii=False).encode()) > 3 * 1024, "3 KB at least"


def test_result_that_is_too_long_without_its_message_is_still_given() -> None:
    result = StageResult(stage="train", fingerprint="f" * 5000, outcome="failed", message="why")
    assert json.loads(result.to_termination_message())["message"] == "…"


def test_stage_configuration_survives_the_environment() -> None:
    document = {
        "model": "m",
        "fingerprint": "abc",
        "datasetPath": "/artifacts/d.csv",
        "textColumn": "comment",
        "labelColumn": "toxic",
        "split": {},
        "baseModelPath": "/artifacts/base",
        "training": {"learningRate": 0.001},
    }
    config = parse_stage_config(TrainingConfig, {"STAGE_CONFIG": json.dumps(document)})
    assert config.training.learning_rate == 0.001
    assert config.training.prompt_template.endswith("ответ:")
    assert str(config.output_dir) == "/artifacts/train-abc"
    assert TrainingConfig.model_validate(config.to_wire()) == config
