"""The Hugging Face model card of a model folder: README.md with data, figures, threshold and licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity_api.results import Metrics, TrainingResult
from toxicity_api.spec import QuantizationSpec, TrainingSpec
from toxicity_api.stage_config import TrainingConfig

CARD_FILE = "README.md"
DIGITS = 4

LICENCES = {"gemma": "gemma", "gemma2": "gemma", "gemma3": "gemma", "gemma3_text": "gemma"}
"""Licence of the hub by model_type, for families with one licence for all models."""

FIGURES: Mapping[str, tuple[str, str]] = {
    "f1": ("F1 of the toxic class", "f1"),
    "macro_f1": ("macro F1", "f1"),
    "precision": ("precision of the toxic class", "precision"),
    "recall": ("recall of the toxic class", "recall"),
    "roc_auc": ("ROC-AUC", "roc_auc"),
    "pr_auc": ("average precision", "average_precision"),
    "calibration_error": ("expected calibration error", "ece"),
    "distorted_f1": ("F1, spelling that evades filters", "f1"),
    "misspelled_f1": ("F1, misspellings that training never uses", "f1"),
}
"""Name and type on the hub of each figure of the metrics."""


@dataclass(frozen=True)
class Licence:
    """A licence of the hub's list, or `other` with the name and the link that the card of the base model gives."""

    key: str
    name: str | None = None
    link: str | None = None

    def __str__(self) -> str:
        return f"`{self.name or self.key}`" + (f", {self.link}" if self.link else "")


def write_card(folder: Path, config: TrainingConfig, spec: TrainingSpec, result: TrainingResult) -> None:
    """Writes the card of a trained model; `spec` has the resolved lengths."""
    from huggingface_hub import ModelCard, ModelCardData

    licence = licence_of(config.base_model_path)
    data = ModelCardData(
        language="ru",
        license=licence.key if licence else "other",
        license_name=licence.name if licence else "unknown",
        license_link=licence.link if licence else None,
        base_model=_repository(config.base_model),
        pipeline_tag="text-classification",
        library_name="transformers",
        tags=["toxicity", "lora"],
        model_name=config.model,
        eval_results=_eval_results(config.dataset, result.metrics),
    )
    text = "\n\n".join(
        [
            f"---\n{data.to_yaml()}\n---\n\n# {config.model}",
            "Classifies Russian comments as toxic or not. The model answers a prompt with one of two labels. The score"
            " is the softmax over the first tokens of both labels.",
            _use(spec, result.metrics),
            _data(config, result),
            _figures("## Figures", result.metrics),
            _training(spec, result),
            _licence(licence),
        ]
    )
    ModelCard(text).save(folder / CARD_FILE)


def add_quantization(folder: Path, spec: QuantizationSpec, metrics: Metrics) -> None:
    """Adds the figures of the quantized weights to the card of the trained model, if the folder has one."""
    from huggingface_hub import ModelCard

    path = folder / CARD_FILE
    if not path.is_file():
        return  # an earlier release wrote no card
    card = ModelCard.load(path)
    dataset = card.data.eval_results[0].dataset_name if card.data.eval_results else ""
    card.data.eval_results = _eval_results(dataset, metrics)
    card.data.tags = [*(card.data.tags or []), "awq", f"{spec.bits}-bit"]
    method = f"{spec.method.upper()} by {spec.backend}, {spec.bits} bit, groups of {spec.group_size}."
    section = _figures("## Quantization\n\n" + method, metrics)
    card.text = f"{card.text.rstrip()}\n\n{section}\n"
    card.save(path)


def licence_of(base: Path) -> Licence | None:
    """The licence of the base model, from its card or its family; None if neither states one."""
    stated = _metadata(base / CARD_FILE)
    if key := stated.get("license"):
        return Licence(key, stated.get("license_name"), stated.get("license_link"))
    kind = json.loads((base / "config.json").read_text(encoding="utf-8")).get("model_type")
    return Licence(LICENCES[kind]) if kind in LICENCES else None


def _metadata(card: Path) -> dict[str, str]:
    """The texts among the metadata of a model card; empty without a card that can be read."""
    import yaml
    from huggingface_hub import metadata_load

    if not card.is_file():
        return {}
    try:
        found = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError):
        return {}
    return {str(key): value for key, value in found.items() if isinstance(value, str)}


def _repository(name: str) -> str | None:
    """The repository of a hub model without its revision; None for an image or a volume."""
    repository, found, _ = name.partition("@")
    return repository if found and not repository.startswith("sha256") and repository.count("/") == 1 else None


def _eval_results(dataset: str, metrics: Metrics) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-classification",
            dataset_type="custom",
            dataset_name=dataset or "comments",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, DIGITS),
        )
        for name, kind, value in _known(metrics)
    ]


def _known(metrics: Metrics) -> list[tuple[str, str, float]]:
    """(name, type on the hub, value) of the figures that were measured."""
    values = ((*names, getattr(metrics, field)) for field, names in FIGURES.items())
    return [(name, kind, value) for name, kind, value in values if value is not None]


def _use(spec: TrainingSpec, metrics: Metrics) -> str:
    return "\n".join(
        [
            "## Use\n",
            f"- Prompt: `{spec.prompt_template!r}`, at most {spec.max_input_tokens} tokens",
            f"- Normal form of the text: version {spec.normal_form}, `normalise_text`"
            if spec.normal_form
            else "- Text as it is",
            f"- Labels: `{spec.labels.toxic!r}` for toxic, `{spec.labels.non_toxic!r}` for other comments",
            f"- Threshold of the score: {metrics.threshold:.6f}, with the best F1 of the toxic class on the validation"
            " split",
        ]
    )


def _data(config: TrainingConfig, result: TrainingResult) -> str:
    lines = ["## Data\n", f"- Source: {config.dataset or config.dataset_path.name}"]
    if result.sources and result.sources.dataset_commit:
        lines.append(f"- Revision: {result.sources.dataset_commit}")
    if data := result.data:
        lines += [
            f"- {data.rows} comments, {data.toxic} of them toxic, {data.duplicates} duplicates,"
            f" {data.contradictions} texts with both labels",
            f"- {result.train_samples} training rows, {result.metrics.test_samples} test rows; sha256 of the splits"
            f" `{data.split_hash}`",
        ]
    return "\n".join(lines)


def _figures(heading: str, metrics: Metrics) -> str:
    """A table of the figures on the test split, with the interval of F1."""
    lines = [heading, "", "| figure on the test split | value |", "|---|---:|"]
    lines += [f"| {name} | {value:.3f} |" for name, _, value in _known(metrics)]
    if metrics.f1_low is not None and metrics.f1_high is not None:
        lines.append(f"| 95 % interval of F1 | {metrics.f1_low:.3f} to {metrics.f1_high:.3f} |")
    return "\n".join(lines)


def _training(spec: TrainingSpec, result: TrainingResult) -> str:
    lora, stop = spec.lora, "" if result.best_step is None else f", adapter of step {result.best_step}"
    return "\n".join(
        [
            "## Training\n",
            f"- LoRA r {lora.r}, alpha {lora.alpha}, dropout {lora.dropout}, on {', '.join(lora.target_modules)}",
            f"- {spec.epochs:g} epochs, learning rate {spec.learning_rate:g}, batches of {spec.batch_size},"
            f" {result.steps} steps{stop}, seed {spec.seed}",
            f"- {spec.augmentation.share:.0%} of the rows augmented in each epoch",
        ]
    )


def _licence(licence: Licence | None) -> str:
    if licence:
        return f"## Licence\n\nThe base model's licence applies to these weights: {licence}."
    return (
        "## Licence\n\nThe folder of the base model states no licence. The base model's licence applies to these"
        " weights: find it before you share them."
    )
