"""The length of a text, in characters or in tokens of the served model, and texts cut to a length."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from toxicity_loadtest.errors import CorpusError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CACHED_LENGTHS = 100_000


class Unit(Protocol):
    """A unit of length."""

    def length(self, text: str) -> int:
        """Return the length of the text, at least 1 if it is not blank."""

    def cut(self, text: str, most: int) -> str:
        """Return the longest beginning of at most `most` units, without white space at its end."""


class Characters:
    def length(self, text: str) -> int:
        return len(text)

    def cut(self, text: str, most: int) -> str:
        return text[:most].rstrip()


class Tokens:
    """Tokens of the text itself, without the prompt around it and without control tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.length = lru_cache(maxsize=CACHED_LENGTHS)(self._length)

    def _length(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def cut(self, text: str, most: int) -> str:
        ends = [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]
        while (short := text[: ends[min(most, len(ends)) - 1]].rstrip()) and self.length(short) > most:
            ends = ends[: min(most, len(ends)) - 1]  # the end of a word alone can have more tokens than inside it
        return short


def read_unit(tokenizer: Path | None) -> Unit:
    """Return tokens of the tokenizer.json, or characters without one. Raises CorpusError."""
    if tokenizer is None:
        return Characters()
    from tokenizers import Tokenizer

    try:
        return Tokens(Tokenizer.from_str(tokenizer.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read the tokenizer from {tokenizer}: {error}") from error
