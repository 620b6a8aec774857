"""The prompt and the two label tokens: one place, so that training, evaluation and serving agree to the token.

The score is p(toxic) = softmax over the logits of the two labels' first tokens, one position after the prompt.
Tokens are matched by id, since a Cyrillic token can decode to empty text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from toxicity_api.spec import Labels

PLACEHOLDER = "{text}"

WINDOW_OVERLAP_TOKENS = 64
"""Tokens that two neighbouring windows of a long text share: an insult of a few words is whole in one of them."""

MOST_WINDOWS = 32
"""Windows of one text; what lies beyond is cut and flagged. At 512 tokens that is some 14 000 tokens of text."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that prompts need."""

    bos_token_id: int | None

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any: ...


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt; `truncated` when the text lost its end to fit."""

    ids: list[int]
    truncated: bool


@dataclass(frozen=True)
class LabelTokens:
    """Ids of the first token of each label."""

    toxic: int
    non_toxic: int


class LabelTokenError(ValueError):
    """The labels cannot be told apart by their first tokens."""


class LogitsNotFiniteError(ValueError):
    """The model's answer is no number."""


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def label_tokens(tokenizer: Tokenizer, labels: Labels) -> LabelTokens:
    """First token ids of both labels. Raises LabelTokenError when a label is empty or both ids are equal."""
    toxic, non_toxic = _ids(tokenizer, labels.toxic), _ids(tokenizer, labels.non_toxic)
    if not toxic or not non_toxic:
        raise LabelTokenError(f"a label has no tokens: {labels.toxic!r} {toxic}, {labels.non_toxic!r} {non_toxic}")
    if toxic[0] == non_toxic[0]:
        raise LabelTokenError(
            f"training.labels {labels.toxic!r} and {labels.non_toxic!r} begin with the same token {toxic[0]};"
            " choose others"
        )
    return LabelTokens(toxic[0], non_toxic[0])


def build_prompt(tokenizer: Tokenizer, template: str, text: str, max_tokens: int) -> Prompt:
    """BOS + template with the text in it, at most `max_tokens` ids.

    Only the text is cut, so that the template's end (the question) survives. Raises ValueError when the
    template alone does not leave room for one token of text.
    """
    prefix, suffix = template.split(PLACEHOLDER, 1)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    whole = bos + _ids(tokenizer, prefix + text + suffix)
    if len(whole) <= max_tokens:
        return Prompt(whole, truncated=False)
    suffix_ids = _ids(tokenizer, suffix)
    head = bos + _ids(tokenizer, prefix + text)
    room = max_tokens - len(suffix_ids)
    if room <= len(bos) + len(_ids(tokenizer, prefix)):
        raise ValueError(f"the prompt template alone fills {max_tokens} tokens; raise the length or shorten it")
    return Prompt(head[:room] + suffix_ids, truncated=True)


def build_windows(
    tokenizer: Tokenizer,
    template: str,
    text: str,
    max_tokens: int,
    overlap: int = WINDOW_OVERLAP_TOKENS,
    most: int = MOST_WINDOWS,
) -> list[Prompt]:
    """The prompts of at most `max_tokens` ids that show all of the text: one when it fits, else windows over it.

    Each window is the whole template around equally many tokens of the text. Neighbours share `overlap` of them (half
    a window where that is less), the last two more, since the last window ends with the text. After `most` windows
    the rest is cut, and the last prompt is `truncated`. Raises ValueError as build_prompt does.
    """
    first = build_prompt(tokenizer, template, text, max_tokens)
    if not first.truncated:
        return [first]
    prefix, suffix = template.split(PLACEHOLDER, 1)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    before, after = bos + _ids(tokenizer, prefix), _ids(tokenizer, suffix)
    # the prefix's end can be one token with the text's beginning: such a token belongs to the text here
    joint = bos + _ids(tokenizer, prefix + text)
    body = joint[_shared_length(before, joint) :]
    size = max_tokens - len(before) - len(after)
    starts = window_starts(len(body), size, overlap)
    windows = [Prompt(before + body[start : start + size] + after, truncated=False) for start in starts[:most]]
    return windows if len(starts) <= most else [*windows[:-1], Prompt(windows[-1].ids, truncated=True)]


def window_starts(length: int, size: int, overlap: int) -> list[int]:
    """Where windows of `size` begin that cover `length` > 0 items, neighbours sharing `overlap` at least.

    More than half a window is never shared, so that the windows get on; the last one ends with the items.
    """
    stride = size - min(overlap, size // 2)
    last = max(0, length - size)
    return [*range(0, last, stride), last]


def _shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading items are equal."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def toxic_score(toxic_logit: float, non_toxic_logit: float) -> float:
    """softmax([toxic, non_toxic])[0], also for log-probabilities. Raises LogitsNotFiniteError."""
    difference = non_toxic_logit - toxic_logit
    if not math.isfinite(difference):
        raise LogitsNotFiniteError(f"label logits are not finite: {toxic_logit}, {non_toxic_logit}")
    return 1.0 / (1.0 + math.exp(difference)) if difference < 700 else 0.0
