"""Scores the validation and test splits with a Transformers model and computes its metrics.

The training and quantization stages both measure with `measure`, so their metrics are comparable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from toxicity_api.prompting import toxic_score
from toxicity_api.results import Metrics
from toxicity_api.spec import Labels, PromptFormat, TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.evaluation.distort import distort
from toxicity_training.evaluation.metrics import (
    Bin,
    BucketFigures,
    FamilyFigures,
    by_family,
    by_length,
    choose_threshold,
    count_confusion,
    evaluate_scores,
    reliability,
)
from toxicity_training.evaluation.misspell import misspell
from toxicity_training.evaluation.tables import describe_metrics, family_table, length_table
from toxicity_training.prompts import build_prompts, find_label_tokens, pad_id_of, pad_left

EVALUATION_BATCH = 16


@dataclass(frozen=True)
class Evaluation:
    """A model's results on the test split.

    `texts`, `scores` (p(toxic) in [0, 1]) and `labels` (True for toxic) are in the order of the split.
    """

    metrics: Metrics
    texts: list[str]
    scores: list[float]
    labels: list[bool]
    buckets: list[BucketFigures]
    families: list[FamilyFigures]
    reliability: list[Bin]


def measure(
    model: Any,
    tokenizer: Any,
    validation: Sequence[Example],
    test: Sequence[Example],
    spec: TrainingSpec,
    say: Callable[[str], None],
) -> Evaluation:
    """Metrics on `test` at the threshold with the best F1 on `validation`; progress and results go to `say`.

    Each model gets its own threshold: quantization preserves the order of the scores better than their scale.
    The same threshold is applied to two copies of `test`, distorted and misspelled. Raises DatasetError unless both
    splits have both labels.
    """
    started = time.monotonic()
    texts, labels = [e.text for e in test], [e.toxic for e in test]
    misspelled = [misspell(text, spec.seed) for text in texts]
    parts = [
        [e.text for e in validation],
        texts,
        [distort(text, spec.seed) for text in texts],
        [text for text, _ in misspelled],
    ]
    say(f"scoring {sum(map(len, parts))} texts: validation, and test in three spellings")
    scored = iter(_scores(model, tokenizer, [text for part in parts for text in part], spec))
    seen, scores, on_distorted, on_misspelled = (list(islice(scored, len(part))) for part in parts)
    threshold = choose_threshold(seen, [e.toxic for e in validation])
    robustness = {
        "distorted_f1": count_confusion(on_distorted, labels, threshold).f1,
        "misspelled_f1": count_confusion(on_misspelled, labels, threshold).f1,
    }
    evaluation = Evaluation(
        metrics=evaluate_scores(scores, labels, threshold, seed=spec.seed).model_copy(update=robustness),
        texts=texts,
        scores=scores,
        labels=labels,
        buckets=by_length(scores, labels, [len(text) for text in texts], threshold),
        families=by_family([family for _, family in misspelled], scores, on_misspelled, labels, threshold),
        reliability=reliability(scores, labels),
    )
    say(f"evaluated {len(texts)} rows in {time.monotonic() - started:.0f} s, threshold {threshold:.3f}")
    tables = [*length_table(evaluation.buckets), *family_table(evaluation.families)]
    for line in [*describe_metrics(evaluation.metrics), *tables]:
        say(line)
    return evaluation


def validation_loss(model: Any, tokenizer: Any, rows: Sequence[Example], spec: TrainingSpec) -> float:
    """The log loss of p(toxic) on `rows`, in nats. Leaves the model in evaluation mode."""
    from sklearn.metrics import log_loss

    scores = _scores(model, tokenizer, [row.text for row in rows], spec)
    return float(log_loss([row.toxic for row in rows], scores, labels=[False, True]))


def _scores(model: Any, tokenizer: Any, texts: Sequence[str], spec: TrainingSpec) -> list[float]:
    return score_texts(
        model,
        tokenizer,
        texts,
        template=spec.prompt_format,
        labels=spec.labels,
        max_tokens=spec.max_input_tokens,
        batch_size=EVALUATION_BATCH,
    )


def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    template: PromptFormat,
    labels: Labels,
    max_tokens: int,
    batch_size: int,
) -> list[float]:
    """p(toxic) of each text in [0, 1], in the order of `texts`. Leaves the model in evaluation mode.

    Equal prompts are scored once. Prompts of similar length share a batch. Batches are padded on the left, so the label
    follows the last position, and only the logits of that position are computed. `max_tokens` limits each prompt.
    """
    import torch

    tokens = find_label_tokens(tokenizer, labels)
    prompts = [*map(tuple, build_prompts(tokenizer, template, texts, max_tokens, "training.maxInputLength"))]
    order = sorted(dict.fromkeys(prompts), key=len, reverse=True)
    pad_id = pad_id_of(tokenizer)
    scores: dict[tuple[int, ...], float] = {}
    _switch_to_evaluation(model)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = {key: value.to(model.device) for key, value in pad_left(chosen, pad_id).items()}
            logits = model(**batch, logits_to_keep=1, use_cache=False).logits[:, -1, :].float()
            pairs = logits[:, [tokens.toxic, tokens.non_toxic]].tolist()
            for prompt, (toxic, non_toxic) in zip(chosen, pairs, strict=True):
                scores[prompt] = toxic_score(toxic, non_toxic)
    return [scores[prompt] for prompt in prompts]


def _switch_to_evaluation(model: Any) -> None:
    """Evaluation mode, except for 4-bit layers, which compute the same in both modes.

    In evaluation mode, bitsandbytes repacks them on CPUs with bf16 instructions. That rounds their scales and is not
    undone when the training continues.
    """
    model.eval()
    for module in model.modules():
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None:
            module.training = True
