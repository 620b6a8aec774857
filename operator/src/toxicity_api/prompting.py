"""The prompt and the two label tokens: one place, so that training, evaluation and serving agree to the token.

The score is p(toxic) = softmax over the logits of the two labels' first tokens, one position after the prompt.
Tokens are matched by id, since a Cyrillic token can decode to empty text.

A text is text: where it spells a control token, such as <eos>, it gets the tokens of these characters. A template's own
control tokens count. Otherwise a writer could end the prompt, and with it the insult: `какой же<bos>ты дебил`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from toxicity_api.spec import Labels
from toxicity_api.spec.training import PLACEHOLDER

WINDOW_OVERLAP_TOKENS = 64
"""Tokens that two neighbouring windows of a long text share: an insult of a few words is whole in one of them."""

MOST_WINDOWS = 32
"""Windows of one text; what lies beyond is cut and flagged. At 512 tokens that is some 14 000 tokens of text."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that prompts need."""

    bos_token_id: int | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """By id the AddedTokens, of which the `special` ones are control tokens and `content` their names."""
        ...

    def __hash__(self) -> int: ...

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False) -> Any:
        """`input_ids`; with `split_special_tokens` names of control tokens are characters like others."""
        ...


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


@dataclass(frozen=True)
class _Frame:
    """A template around the text: ids and plain characters before it, plain characters and ids behind it.

    `before` and `after` are the ids of each side by itself.
    """

    opening: list[int]
    prefix: str
    suffix: str
    closing: list[int]
    before: list[int]
    after: list[int]

    def room(self, max_tokens: int) -> int:
        """Ids that are left for a text. Raises ValueError when there is none."""
        room = max_tokens - len(self.before) - len(self.after)
        if room <= 0:
            raise ValueError(
                f"the prompt template alone fills {max_tokens} tokens; raise the length or shorten it"
            )
        return room


@functools.lru_cache(maxsize=8)
def _frame(tokenizer: Tokenizer, template: str) -> _Frame:
    """Control tokens of the template, and what lies beyond them, are ids; BOS is the first, and there once."""
    prefix, suffix = template.split(PLACEHOLDER, 1)
    names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    inner = max((prefix.rfind(name) + len(name) for name in names if name in prefix), default=0)
    outer = min((suffix.find(name) for name in names if name in suffix), default=len(suffix))
    opening = _ids(tokenizer, prefix[:inner])
    if tokenizer.bos_token_id is not None and opening[:1] != [tokenizer.bos_token_id]:
        opening = [tokenizer.bos_token_id, *opening]
    closing = _ids(tokenizer, suffix[outer:])
    prefix, suffix = prefix[inner:], suffix[:outer]
    before = opening + _plain_ids(tokenizer, prefix)
    return _Frame(opening, prefix, suffix, closing, before, _plain_ids(tokenizer, suffix) + closing)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


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
    frame = _frame(tokenizer, template)
    whole = _whole(tokenizer, frame, text)
    if len(whole) <= max_tokens:
        return Prompt(whole, truncated=False)
    kept = len(frame.before) + frame.room(max_tokens)
    return Prompt(_head(tokenizer, frame, text)[:kept] + frame.after, truncated=True)


def _whole(tokenizer: Tokenizer, frame: _Frame, text: str) -> list[int]:
    return [*frame.opening, *_plain_ids(tokenizer, frame.prefix + text + frame.suffix), *frame.closing]


def _head(tokenizer: Tokenizer, frame: _Frame, text: str) -> list[int]:
    """All up to the text's end."""
    return frame.opening + _plain_ids(tokenizer, frame.prefix + text)


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
    frame = _frame(tokenizer, template)
    whole = _whole(tokenizer, frame, text)
    if len(whole) <= max_tokens:
        return [Prompt(whole, truncated=False)]
    size = frame.room(max_tokens)
    # the prefix's end can be one token with the text's beginning: such a token belongs to the text here
    head = _head(tokenizer, frame, text)
    body = head[_shared_length(frame.before, head) :]
    starts = window_starts(len(body), size, overlap)
    windows = [
        Prompt(frame.before + body[start : start + size] + frame.after, truncated=False) for start in starts[:most]
    ]
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
