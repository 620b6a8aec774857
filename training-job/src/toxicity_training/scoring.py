"""Toxicity scores of texts with a Transformers model; shared by both model stages.

Batches run over texts of like length, padded on the left, so that the last position is the one the label follows;
only its logits are computed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from toxicity_api.prompting import LabelTokenError, LabelTokens, Tokenizer, build_prompt, label_tokens, toxic_score
from toxicity_api.spec import Labels
from toxicity_stage.errors import ModelError


def find_label_tokens(tokenizer: Tokenizer, labels: Labels) -> LabelTokens:
    """First token ids of the labels. Raises ModelError when they cannot be told apart."""
    try:
        return label_tokens(tokenizer, labels)
    except LabelTokenError as error:
        raise ModelError("LabelsNotDistinct", str(error)) from error


def build_prompts(
    tokenizer: Tokenizer, template: str, texts: Sequence[str], max_tokens: int, field: str
) -> list[list[int]]:
    """Token ids of each text's prompt, at most `max_tokens`. Raises ModelError naming `field` when too few fit."""
    try:
        return [build_prompt(tokenizer, template, text, max_tokens).ids for text in texts]
    except ValueError as error:
        raise ModelError("PromptTooLong", f"{field}: {error}") from error


def prompt_lengths(tokenizer: Tokenizer, template: str, texts: Sequence[str]) -> list[int]:
    """Tokens of each text's whole prompt, uncut."""
    return [len(build_prompt(tokenizer, template, text, sys.maxsize).ids) for text in texts]


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, pad_to: int = 0) -> dict[str, Any]:
    """input_ids, attention_mask and position_ids (tensors rows x longest, or `pad_to` if more), padded on the left."""
    import torch

    longest = max(pad_to, *map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[index, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def pad_id_of(tokenizer: Any) -> int:
    """The id to pad with; padding is masked, so any id will do where the tokenizer has none."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0):
        if candidate is not None:
            return int(candidate)
    raise AssertionError("unreachable: the last candidate is a number")


def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    template: str,
    labels: Labels,
    max_tokens: int,
    batch_size: int,
) -> list[float]:
    """p(toxic) of each text in [0, 1], in the order of `texts`. Leaves the model in evaluation mode."""
    import torch

    tokens = find_label_tokens(tokenizer, labels)
    prompts = build_prompts(tokenizer, template, texts, max_tokens, "training.maxInputLength")
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    pad_id = pad_id_of(tokenizer)
    scores = [0.0] * len(prompts)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = {
                key: value.to(model.device)
                for key, value in pad_left([prompts[i] for i in chosen], pad_id).items()
            }
            logits = model(**batch, logits_to_keep=1, use_cache=False).logits[:, -1, :].float()
            pairs = logits[:, [tokens.toxic, tokens.non_toxic]].tolist()
            for index, (toxic, non_toxic) in zip(chosen, pairs, strict=True):
                scores[index] = toxic_score(toxic, non_toxic)
    return scores
