"""Prompts as token ids, and batches of them as tensors; training, scoring and calibration build theirs here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from toxicity_api.prompting import LabelTokenError, LabelTokens, Tokenizer, build_prompt, label_tokens
from toxicity_api.spec import Labels, PromptFormat
from toxicity_stage.errors import ModelError


def find_label_tokens(tokenizer: Tokenizer, labels: Labels) -> LabelTokens:
    """First token ids of the labels. Raises ModelError if they are equal."""
    try:
        return label_tokens(tokenizer, labels)
    except LabelTokenError as error:
        raise ModelError("LabelsNotDistinct", str(error)) from error


def build_prompts(
    tokenizer: Tokenizer, form: PromptFormat, texts: Sequence[str], max_tokens: int, field: str
) -> list[list[int]]:
    """Token ids of each text's prompt, at most `max_tokens` each.

    Raises ModelError naming `field` if the template leaves no room for text.
    """
    try:
        return [build_prompt(tokenizer, form, text, max_tokens).ids for text in texts]
    except ValueError as error:
        raise ModelError("PromptTooLong", f"{field}: {error}") from error


def prompt_lengths(tokenizer: Tokenizer, form: PromptFormat, texts: Sequence[str]) -> list[int]:
    """The length of each text's prompt in tokens, untruncated."""
    return [len(build_prompt(tokenizer, form, text, sys.maxsize).ids) for text in texts]


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, pad_to: int = 0) -> dict[str, Any]:
    """input_ids, attention_mask and position_ids, padded on the left.

    Each is a tensor of shape (rows, columns); columns is the longest row in tokens, but at least `pad_to`.
    """
    import torch

    longest = max(pad_to, *map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[index, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def pad_id_of(tokenizer: Any) -> int:
    """The token id to pad with; padding is masked, so any id serves if the tokenizer has none."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0):
        if candidate is not None:
            return int(candidate)
    raise AssertionError("unreachable: the last candidate is a number")
