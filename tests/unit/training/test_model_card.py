"""The model card: what the hub reads of it, what people read of it, and what quantization adds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from support.serving.stage_folders import DATA, METRICS
from toxicity_api.results import SourceFacts, TrainingResult
from toxicity_api.spec import QuantizationSpec, Split, TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_training.model_card import Licence, add_quantization, licence_of, write_card

SPEC = TrainingSpec(gpus=0, max_input_length=96, seed=7).with_normal_form(1)
RESULT = TrainingResult(
    metrics=METRICS.model_copy(update={"misspelled_f1": 0.812}),
    train_samples=11530,
    loss=0.1,
    duration_seconds=60,
    steps=1442,
    best_step=721,
    data=DATA,
    sources=SourceFacts(dataset_commit="c0ffee"),
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3_text"}))
    return folder


def config(base: Path, base_model: str = "google/gemma-3-270m@main") -> TrainingConfig:
    return TrainingConfig(
        model="ru-toxicity",
        fingerprint="abc",
        dataset_path=base / "comments.csv",
        text_column="comment",
        label_column="toxic",
        split=Split(),
        base_model_path=base,
        training=SPEC,
        dataset="owner/comments@v1",
        base_model=base_model,
    )


def written(base: Path, tmp_path: Path, base_model: str = "google/gemma-3-270m@main") -> ModelCard:
    write_card(tmp_path, config(base, base_model), SPEC, RESULT)
    return ModelCard.load(tmp_path / "README.md")


def test_the_hub_reads_language_licence_base_model_and_figures(base: Path, tmp_path: Path) -> None:
    data = written(base, tmp_path).data
    assert (data.language, data.license, data.base_model) == ("ru", "gemma", "google/gemma-3-270m")
    figures = {result.metric_name: result.metric_value for result in data.eval_results}
    assert figures["F1 of the toxic class"] == 0.896
    assert figures["F1, misspellings that training never uses"] == 0.812
    assert "average precision" not in figures, "it was not measured"


def test_people_read_data_use_figures_training_and_licence(base: Path, tmp_path: Path) -> None:
    text = written(base, tmp_path).text
    for words in (
        "# ru-toxicity", "токсичный текст: {text}", "' да'", "0.500000", "at most 96 tokens",
        "Normal form of the text: version 1",
        "owner/comments@v1", "c0ffee", "14412 comments, 4826 of them toxic", "11530 training rows, 1441 test rows",
        "| 95 % interval of F1 | 0.876 to 0.915 |", "LoRA r 16", "1442 steps, adapter of step 721, seed 7",
        "30% of the rows augmented", "`gemma`",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize(
    "name", ["registry/base:1", "localhost/base-model:0.2.0", "reg.io/a/b@sha256:12", "models/base", ""]
)
def test_a_base_model_that_is_not_on_the_hub_is_not_linked(base: Path, tmp_path: Path, name: str) -> None:
    assert written(base, tmp_path, name).data.base_model is None


def test_the_licence_is_that_of_the_base_model_s_card_or_family_or_unknown(base: Path, tmp_path: Path) -> None:
    assert licence_of(base) == Licence("gemma")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    assert licence_of(base) == Licence("apache-2.0")
    (base / "README.md").write_text("# Base\n")
    (base / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert licence_of(base) is None
    card = written(base, tmp_path)
    assert (card.data.license, card.data.license_name) == ("other", "unknown")
    assert "states no licence" in card.text


def test_a_licence_that_the_hub_does_not_list_keeps_its_name_and_link(base: Path, tmp_path: Path) -> None:
    (base / "README.md").write_text(
        "---\nlicense: other\nlicense_name: model-terms\nlicense_link: https://example.org/terms\n---\n"
    )
    card = written(base, tmp_path)
    assert (card.data.license, card.data.license_name) == ("other", "model-terms")
    assert card.data.license_link == "https://example.org/terms"
    assert "applies to these weights: `model-terms`, https://example.org/terms." in card.text


@pytest.mark.parametrize(
    "content",
    [
        b"---\nlicense: [\n---\n",
        b"---\n- a list\n---\n",
        b"---\nlicense: \xff\n---\n",
        b"---\nlicense: 3\n---\n",
        b"---\nmodel-index: 1\n---\n",
    ],
)
def test_a_base_card_that_cannot_be_read_counts_as_none(base: Path, tmp_path: Path, content: bytes) -> None:
    (base / "README.md").write_bytes(content)
    assert written(base, tmp_path).data.license == "gemma"


def test_quantization_adds_its_figures(base: Path, tmp_path: Path) -> None:
    before = written(base, tmp_path)
    add_quantization(tmp_path, QuantizationSpec(gpus=0, group_size=64), METRICS.model_copy(update={"f1": 0.871}))
    card = ModelCard.load(tmp_path / "README.md")
    assert before.text.strip() in card.text
    assert (
        "AWQ by llm-compressor, 4 bit, groups of 64" in card.text
        and "| F1 of the toxic class | 0.871 |" in card.text
    )
    assert card.data.eval_results[0].metric_value == 0.871
    assert card.data.eval_results[0].dataset_name == "owner/comments@v1"
    assert {"lora", "awq", "4-bit"} <= set(card.data.tags)


def test_quantization_of_a_model_without_a_card_writes_none(tmp_path: Path) -> None:
    add_quantization(tmp_path, QuantizationSpec(gpus=0), METRICS)
    assert list(tmp_path.iterdir()) == []
