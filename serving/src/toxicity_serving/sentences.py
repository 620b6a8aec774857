"""Where the sentences of a text are. The rules and the abbreviations are those of sentencex for Russian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sentencex

from toxicity_api.normal_form.form import is_blank

MAX_SENTENCES = 256
"""Maximum number of sentences in a request: each one is a prompt. A comment of 20 000 characters has about 300."""

LANGUAGE = "ru"


class TooManySentencesError(ValueError):
    """The texts of a request have more sentences together than a request may have."""


@dataclass(frozen=True)
class Span:
    """A part of a text, in code points; `end` is exclusive."""

    begin: int
    end: int


def find_sentences(text: str) -> list[Span]:
    """Return the spans of the sentences in order, without the white space around them.

    Parts without a visible character are left out. A text of one sentence has one span.
    """
    spans = []
    for boundary in sentencex.get_sentence_boundaries(LANGUAGE, text):
        begin, part = boundary["start_index"], boundary["text"]
        if not is_blank(part):
            begin += len(part) - len(part.lstrip())
            spans.append(Span(begin, begin + len(part.strip())))
    return spans


def find_all_sentences(texts: Sequence[str]) -> list[list[Span]]:
    """Return the spans of each text. Raises TooManySentencesError."""
    found, total = [], 0
    for text in texts:
        found.append(find_sentences(text))
        total += len(found[-1])
        if total > MAX_SENTENCES:
            raise TooManySentencesError(
                f"the request has more than {MAX_SENTENCES} sentences; send fewer or shorter texts, or do not ask for"
                " a score per sentence"
            )
    return found
