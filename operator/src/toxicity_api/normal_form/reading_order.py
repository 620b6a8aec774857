"""Text in the order in which a person reads it, if it has bidirectional controls.

A right-to-left override shows Cyrillic letters from the last to the first, so a text that is stored backwards looks
like ordinary text. The Unicode Bidirectional Algorithm says what a person sees (unicode.org/reports/tr9).
"""

from __future__ import annotations

import re
import unicodedata

from bidi import get_display

CONTROLS = "\u202a-\u202e\u2066-\u2069"
"""Embeddings, overrides and isolates, with their ends, for a character class."""

_CONTROLS = re.compile(f"[{CONTROLS}]")
_RIGHT_TO_LEFT = frozenset({"R", "AL"})


def in_reading_order(text: str) -> str:
    """Return the text without bidirectional controls, each line in the order in which it is read.

    Lines are laid out from left to right. Arabic, Hebrew and other right-to-left letters keep their stored order, in
    which their readers read them.
    """
    if not _CONTROLS.search(text):
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(line: str) -> str:
    if not _CONTROLS.search(line):
        return line
    shown = _CONTROLS.sub("", get_display(line, base_dir="L"))
    return _stored_order(shown) if any(map(_is_right_to_left, shown)) else shown


def _is_right_to_left(character: str) -> bool:
    return unicodedata.bidirectional(character) in _RIGHT_TO_LEFT


def _stored_order(shown: str) -> str:
    """Reverse each run of right-to-left letters with what is between them."""
    kinds = "".join(
        "R" if _is_right_to_left(c) else "L" if unicodedata.bidirectional(c) == "L" else "-" for c in shown
    )
    pieces, end = [], 0
    for run in re.finditer(r"R(?:[R-]*R)?", kinds):
        pieces += [shown[end : run.start()], shown[run.start() : run.end()][::-1]]
        end = run.end()
    return "".join([*pieces, shown[end:]])
