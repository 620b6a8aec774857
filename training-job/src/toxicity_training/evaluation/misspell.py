"""Misspells texts as people type them; pure. `measure.py` measures robustness on the test rows in this form.

A reader still recognises every word, so the label stays valid. The normal form of texts undoes none of it, and
`augmentation.py` uses none of these families in training: the figures say how a model copes with what it has not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from toxicity_training.words import change_words

SHARE = 0.5
"""share of a text's longer words that are misspelt, rounded up, and of the spaces that are left out"""

BY_EAR = (
    ("жи", "жы"), ("ши", "шы"), ("ться", "тся"), ("его", "ево"), ("ого", "ова"), ("что", "што"), ("счи", "щи"),
    ("тся", "ца"), ("чн", "шн"), ("здн", "зн"), ("стн", "сн"),
)  # fmt: skip
"""Spellings and how they sound."""

UNSTRESSED = (("о", "а"), ("е", "и"), ("я", "е"))
"""Vowels and how they sound without stress; for words that have none of BY_EAR."""

KEYBOARD = ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю")
"""Rows of the Russian keyboard."""

LATIN = {
    **{"а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ё": "yo", "ж": "zh", "з": "z", "и": "i"},
    **{"й": "y", "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t"},
    **{"у": "u", "ф": "f", "х": "h", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sch", "ъ": "", "ы": "y", "ь": ""},
    **{"э": "e", "ю": "yu", "я": "ya"},
}
_LATIN = str.maketrans(LATIN | {letter.upper(): latin.capitalize() for letter, latin in LATIN.items()})

_BETWEEN_WORDS = re.compile("(?<=[А-Яа-яЁё]) (?=[А-Яа-яЁё])")

Family = Callable[[str, Random], str]


def misspell(text: str, seed: int) -> tuple[str, str | None]:
    """(`text` misspelt by one family, the family's name); the text and None if no family changes it.

    The result depends only on (seed, text).
    """
    random = Random(f"{seed}:{text}")
    for name in random.sample(list(FAMILIES), len(FAMILIES)):
        misspelt = FAMILIES[name](text, random)
        if misspelt != text:
            return misspelt, name
    return text, None


def spell_by_ear(text: str, random: Random) -> str:
    """`нипонятно`: one spelling of a word as it sounds."""
    return change_words(text, SHARE, random, _spell_by_ear)


def hit_neighbours(text: str, random: Random) -> str:
    """`дуоак`: a letter replaced by its neighbour on the keyboard."""
    return change_words(text, SHARE, random, _hit_neighbour)


def swap_letters(text: str, random: Random) -> str:
    """`дуарк`: two neighbouring letters swapped."""
    return change_words(text, SHARE, random, _swap_letters)


def drop_letters(text: str, random: Random) -> str:
    """`драк`: a letter left out, not the first."""
    return change_words(text, SHARE, random, _drop_letter)


def double_letters(text: str, random: Random) -> str:
    """`дуррак`: a letter typed twice."""
    return change_words(text, SHARE, random, _double_letter)


def drop_signs(text: str, random: Random) -> str:
    """`обявил`: soft and hard signs left out."""
    return re.sub("[ьъЬЪ]", "", text)


def use_latin(text: str, random: Random) -> str:
    """`durak`: all words in Latin letters."""
    return text.translate(_LATIN)


def merge_words(text: str, random: Random) -> str:
    """`тыдурак`: spaces left out."""
    return _BETWEEN_WORDS.sub(lambda space: "" if random.random() < SHARE else " ", text)


FAMILIES: dict[str, Family] = {
    "by ear": spell_by_ear,
    "keyboard neighbours": hit_neighbours,
    "swapped letters": swap_letters,
    "dropped letters": drop_letters,
    "doubled letters": double_letters,
    "dropped signs": drop_signs,
    "Latin letters": use_latin,
    "merged words": merge_words,
}


def _spell_by_ear(word: str, random: Random) -> str:
    """`word` with one spelling of BY_EAR as it sounds, else with one vowel after the first letter."""
    for sounds, first in ((BY_EAR, 0), (UNSTRESSED, 1)):
        found = [
            (match.start(), spelling, sound)
            for spelling, sound in sounds
            for match in re.finditer(spelling, word)
            if match.start() >= first
        ]
        if found:
            place, spelling, sound = random.choice(found)
            return word[:place] + sound + word[place + len(spelling) :]
    return word


def _hit_neighbour(word: str, random: Random) -> str:
    place = random.randrange(1, len(word))
    row = next((row for row in KEYBOARD if word[place] in row), None)
    if row is None:
        return word
    at = row.index(word[place])
    return word[:place] + random.choice(row[max(0, at - 1) : at] + row[at + 1 : at + 2]) + word[place + 1 :]


def _swap_letters(word: str, random: Random) -> str:
    place = random.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _drop_letter(word: str, random: Random) -> str:
    place = random.randrange(1, len(word))
    return word[:place] + word[place + 1 :]


def _double_letter(word: str, random: Random) -> str:
    """Doubles a letter whose neighbours differ from it; three equal letters are another kind of distortion."""
    single = [i for i in range(1, len(word)) if word[i] not in (word[i - 1], word[i + 1 : i + 2])]
    if not single:
        return word
    place = random.choice(single)
    return word[: place + 1] + word[place:]
