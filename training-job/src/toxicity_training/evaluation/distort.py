"""Distorts spelling the way people do to evade filters; pure. `measure.py` scores the test rows in this form too.

A reader still recognises every word, so the label stays valid. These are known evasions: the normal form undoes
look-alikes and fully separated words, and the augmentation trains with digits and separated letters. `misspell.py` has
what neither addresses.
"""

from __future__ import annotations

from random import Random

from toxicity_training.words import change_words

SHARE = 0.5
"""share of a text's distortable words that are distorted, rounded up"""
MOST_CUTS = 3
"""maximum number of cuts in a word; less than SHORTEST_WORD, so every word has room for them"""

LOOK_ALIKES = {
    **{"а": "a", "е": "e", "ё": "ë", "к": "k", "о": "o", "р": "p", "с": "c", "у": "y", "х": "x"},
    **{"А": "A", "В": "B", "Е": "E", "Ё": "Ë", "К": "K", "М": "M", "Н": "H", "О": "O", "Р": "P", "С": "C"},
    **{"Т": "T", "У": "Y", "Х": "X"},
}
"""Cyrillic letters and the Latin ones that look the same; each case only if it looks the same"""

DIGITS = {"о": "0", "з": "3", "ч": "4", "б": "6", "О": "0", "З": "3", "Ч": "4", "Б": "6"}
"""Cyrillic letters and the digits that stand for them"""

_LOOK_ALIKES = str.maketrans(LOOK_ALIKES)
_DIGITS = str.maketrans(DIGITS)


def distort(text: str, seed: int) -> str:
    """`text` with half of its Cyrillic words of 4 and more letters distorted, each in one way.

    The ways are look-alikes, digits, spaces and dots. The result depends only on
    (seed, text). Everything between the words is kept; a text without such words is returned unchanged.
    """
    # Random hashes a string seed the same way in every process, unlike a tuple
    return change_words(text, SHARE, Random(f"{seed}:{text}"), _distort_word)


def _distort_word(word: str, random: Random) -> str:
    """`word` distorted in one way, drawn from those that change it."""
    ways = [
        word.translate(_LOOK_ALIKES),
        word.translate(_DIGITS),
        _cut(word, " ", random),
        _cut(word, ".", random),
    ]
    return random.choice([way for way in ways if way != word])


def _cut(word: str, separator: str, random: Random) -> str:
    """`word` with `separator` at one to MOST_CUTS places between its letters."""
    cuts = set(random.sample(range(1, len(word)), random.randint(1, MOST_CUTS)))
    return "".join(separator + letter if index in cuts else letter for index, letter in enumerate(word))
