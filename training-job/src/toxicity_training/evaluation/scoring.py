"""Scores texts with a Transformers model. Needs torch, unlike the metrics that are computed from the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toxicity_api.prompting import toxic_score
from toxicity_api.spec import Labels, PromptFormat, TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.prompts import build_prompts, find_label_tokens, pad_id_of, pad_left

EVALUATION_BATCH = 16


def validation_loss(model: Any, tokenizer: Any, rows: Sequence[Example], spec: TrainingSpec) -> float:
    """The log loss of p(toxic) on `rows`, in nats. Leaves the model in evaluation mode."""
    from sklearn.metrics import log_loss

    scores = scores_of(model, tokenizer, [row.text for row in rows], spec)
    return float(log_loss([row.toxic for row in rows], scores, labels=[False, True]))


def scores_of(model: Any, tokenizer: Any, texts: Sequence[str], spec: TrainingSpec) -> list[float]:
    """p(toxic) of each text with the prompt and the labels of the spec, as `score_texts` computes it."""
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
