"""Whether a text is Russian, as far as its letters and its most frequent words tell.

Detectors with a language model were measured too, and are wrong about short comments: on 48 short Russian ones, CLD3
and langid took 21 and 12 for another language. This rule prefers to miss a text: it says "not Russian" only for a
reason that a reader can check. docs/explanation/serving.md has the figures.
"""

from __future__ import annotations

import re

from toxicity_api.normal_form.form import normalise_text

_LETTER = re.compile(r"[^\W\d_]")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_NOT_RUSSIAN = re.compile(r"[\u0400-\u052f](?<![а-яё])")
_RUSSIAN = re.compile(r"[ыэё]")
"""Letters that Ukrainian, Bulgarian, Serbian and Macedonian lack. Belarusian has them, beside letters of its own."""

_BULGARIAN_VOWEL = re.compile(r"ъ(?![еёюя])\w")
"""In Russian, ъ is followed by one of these vowels. In Bulgarian, it is a vowel."""

_WORD = re.compile(r"\w+")
_LINK_MARKS = ("://", "www.", "@", ".com", ".ru/", ".org")
_UKRAINIAN = "але або був була було дуже дякую зараз немає ти тільки тобі треба хто це чи що щоб як якщо"
_BULGARIAN = "аз бях беше във защо какво като кой които което къде мога няма се си съм тази това този"
_OTHER_WORDS = frozenset(f"{_UKRAINIAN} {_BULGARIAN}".split())
"""Frequent words without a letter that Russian lacks. In Russian they are rare or no words at all."""

JUDGED_CHARACTERS = 1000
"""Characters at the beginning of a text that decide."""

CYRILLIC_SHARE = 0.25
"""Share of Cyrillic letters from which a text can be Russian. Russian comments quote names and titles in Latin."""

WORD_SHARE = 0.125
"""Share of words of another language from which a text is not Russian. A Russian comment may quote one."""


def is_russian(text: str) -> bool:
    """Return False for a text that is certainly not Russian, and True for all others, such as one without letters.

    The text is judged in its normal form, so that Russian words with Latin look-alike letters stay Russian.
    """
    text = " ".join(
        word for word in normalise_text(text[:JUDGED_CHARACTERS]).lower().split() if not _is_link(word)
    )
    letters, cyrillic = len(_LETTER.findall(text)), len(_CYRILLIC.findall(text))
    if cyrillic < CYRILLIC_SHARE * letters:
        return False
    own = len(_RUSSIAN.findall(text))
    if len(_NOT_RUSSIAN.findall(text)) > own / 2:
        return False
    if own:
        return True
    words = _WORD.findall(text)
    foreign = sum(word in _OTHER_WORDS for word in words)
    return not _BULGARIAN_VOWEL.search(text) and (not foreign or foreign < WORD_SHARE * len(words))


def _is_link(word: str) -> bool:
    return any(mark in word for mark in _LINK_MARKS)
