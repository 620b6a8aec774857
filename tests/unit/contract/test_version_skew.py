"""Documents of older and newer versions can be read, and unknown values of known fields are refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from support.documents import at, document_classes, filled, name_of, objects, with_news
from toxicity_api import base
from toxicity_api.base import Document, read_document
from toxicity_api.results import StageResult
from toxicity_api.stage_config import (
    EngineConfig,
    EvaluationConfig,
    LoadTestConfig,
    QuantizationConfig,
    ServingConfig,
    StageConfigError,
    TrainingConfig,
    parse_stage_config,
)
from toxicity_stage.artifacts import read_result
from toxicity_training.experiments.grid import GridError, read_grid

OLD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "documents-1675559.json").read_text(encoding="utf-8")
)
"""A document of every class with all its fields, as commit 1675559 wrote it."""
CLASSES = document_classes()
KNOWN = [kind for kind in CLASSES if name_of(kind) in OLD]
CONFIGS: list[type[Document]] = [
    TrainingConfig, QuantizationConfig, EvaluationConfig, EngineConfig, ServingConfig, LoadTestConfig,
]  # fmt: skip
NEWS: list[Any] = ["word", 7, None, [], {}, [{"deep": {"er": 1}}], {"deep": [1]}]


@pytest.fixture(autouse=True)
def _nothing_logged_before() -> Iterator[None]:
    base._log_unknown.cache_clear()
    yield


def test_no_class_of_the_older_version_is_gone() -> None:
    assert set(OLD) == {name_of(kind) for kind in KNOWN}


@pytest.mark.parametrize("kind", KNOWN, ids=name_of)
def test_document_of_the_older_version_says_the_same_now(
    kind: type[Document], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old = OLD[name_of(kind)]
    read = read_document(kind, json.dumps(old), "old")
    # newer fields may be present with their defaults
    assert _common(json.loads(read.model_dump_json(by_alias=True, exclude_none=True)), old) == old
    assert caplog.records == []


def _common(new: Any, old: Any) -> Any:
    """Return the part of `new` that has the keys of `old`."""
    if isinstance(old, dict):
        return {key: _common(new.get(key), part) for key, part in old.items()}
    if isinstance(old, list):
        return [_common(part, was) for part, was in zip(new, old, strict=True)]
    return new


@pytest.mark.parametrize("kind", KNOWN, ids=name_of)
def test_field_that_came_later_has_a_default(kind: type[Document]) -> None:
    later = {
        name: field for name, field in kind.model_fields.items() if (field.alias or name) not in OLD[name_of(kind)]
    }
    assert [name for name, field in later.items() if field.is_required()] == []


@pytest.mark.parametrize("kind", CLASSES, ids=name_of)
def test_unknown_fields_of_a_newer_version_are_ignored_at_every_depth_and_logged_once(
    kind: type[Document], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    document = OLD.get(name_of(kind)) or filled(kind)
    places = list(objects(document))
    known = kind.model_validate(document)
    for content in NEWS:
        newer = with_news(document, places, content)
        assert read_document(kind, newer, "news") == known
        assert read_document(kind, json.dumps(newer), "news") == known
        assert kind.model_validate(newer) == known, "also where nobody thinks of versions"
    (record,) = caplog.records
    named = record.getMessage().split("fields=")[1].split(":")[0].split(", ")
    assert named == sorted(
        {".".join([*(key for key in place if isinstance(key, str)), "newerField"]) for place in places}
    )


def test_what_is_wrong_in_a_known_field_is_told_without_the_unknown_ones() -> None:
    newer = OLD["toxicity_api.results.StageResult"] | {"newerField": 1, "outcome": "half"}
    with pytest.raises(ValidationError) as raised:
        read_document(StageResult, newer, "a result")
    assert [error["loc"] for error in raised.value.errors()] == [("outcome",)]


def configuration(kind: type[Document]) -> dict[str, Any]:
    return json.loads(json.dumps(OLD[name_of(kind)]))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", CONFIGS, ids=name_of)
def test_stage_configuration_of_a_newer_operator_is_read(kind: type[Document]) -> None:
    document = configuration(kind)
    newer = with_news(document, list(objects(document)), {"deep": 1})
    read = parse_stage_config(kind, {"STAGE_CONFIG": json.dumps(newer)})
    assert read == kind.model_validate(document)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        (TrainingConfig, ("training", "engine"), "swift"),
        (TrainingConfig, ("training", "lora", "initWeights"), "pissa"),
        (QuantizationConfig, ("quantization", "method"), "gptq"),
        (EvaluationConfig, ("served", "longTexts"), "hierarchy"),
        (ServingConfig, ("longTexts",), "hierarchy"),
        (LoadTestConfig, ("loadTest", "mode"), "soak"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_meaning_that_this_version_does_not_know_is_refused_by_field_with_the_remedy(
    kind: type[Document], place: tuple[str, ...], value: str
) -> None:
    document = configuration(kind)
    at(document, place[:-1])[place[-1]] = value
    with pytest.raises(StageConfigError) as raised:
        parse_stage_config(kind, {"STAGE_CONFIG": json.dumps(document)})
    message = str(raised.value)
    assert message.startswith(f"STAGE_CONFIG.{'.'.join(place)}: ") and repr(value) in message
    assert message.endswith("The image and the operator are of different releases: use the same release for both")
    assert "pydantic" not in message and "\n" not in message


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_missing_or_broken_stage_configuration_is_told(text: str | None) -> None:
    with pytest.raises(StageConfigError, match="STAGE_CONFIG"):
        parse_stage_config(TrainingConfig, {} if text is None else {"STAGE_CONFIG": text})


def test_result_document_of_a_newer_stage_is_read_from_its_folder(tmp_path: Path) -> None:
    old = OLD["toxicity_api.results.StageResult"]
    (tmp_path / "result.json").write_text(json.dumps(with_news(old, list(objects(old)), [1])), encoding="utf-8")
    assert read_result(tmp_path) == StageResult.model_validate(old)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("titel: t\n", "titel"),
        ("training: {epoch: 3}\n", "training.epoch"),
        ("training: {lora: {rank: 3}}\n", "training.lora.rank"),
        ("dataset: {split: {sead: 3}}\n", "dataset.split.sead"),
    ],
)
def test_misspelt_field_of_a_file_that_a_person_wrote_is_named(tmp_path: Path, text: str, field: str) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"title: t\nruns: [{{name: a}}]\n{text}", encoding="utf-8")
    with pytest.raises(GridError, match=field.replace(".", r"\.")):
        read_grid(grid)
