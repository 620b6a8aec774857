"""Changes some of the longer Russian words of a text and keeps everything between them; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from random import Random

SHORTEST_WORD = 4
"""letters of the shortest word that is changed; shorter words would become unreadable"""

# a whole word of Cyrillic letters; a word with digits or Latin letters is already distorted, or a name
_WORD = re.compile(rf"(?<!\w)[А-Яа-яЁё]{{{SHORTEST_WORD},}}(?!\w)")


def change_words(text: str, share: float, random: Random, change: Callable[[str, Random], str]) -> str:
    """`text` with `share` of its Cyrillic words of SHORTEST_WORD and more letters changed, rounded up.

    A text without such words is returned unchanged.
    """
    words = list(_WORD.finditer(text))
    chosen = set(random.sample(range(len(words)), math.ceil(len(words) * share)))
    pieces: list[str] = []
    end = 0
    for index, word in enumerate(words):
        pieces.append(text[end : word.start()])
        pieces.append(change(word.group(), random) if index in chosen else word.group())
        end = word.end()
    return "".join([*pieces, text[end:]])
