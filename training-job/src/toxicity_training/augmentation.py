"""Distorts training texts like real comments; pure.

Published data sets are cleaned of the symbols with which people mask insults, and of quotes, emoji, names and links.
A model that has not seen them reads masked insults as harmless.

The families are those of FAMILIES. `evaluation/misspell.py` judges robustness with other families, and a test keeps the
two sets apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from toxicity_training.words import change_words

SHARE_OF_WORDS = 0.4
"""share of a text's longer words that a family distorts, rounded up"""

MASKS = "*@#_"
TAILS = ("…", "...", "***", "**")
LEET = {
    **{
        "а": "@",
        "б": "6",
        "в": "8",
        "е": "3",
        "з": "3",
        "и": "1",
        "о": "0",
        "с": "$",
        "т": "7",
        "ч": "4",
        "я": "9",
    },
    **{
        "А": "@",
        "Б": "6",
        "В": "8",
        "Е": "3",
        "З": "3",
        "И": "1",
        "О": "0",
        "С": "$",
        "Т": "7",
        "Ч": "4",
        "Я": "9",
    },
}
SEPARATORS = (" ", ".", "-", "_", "*")
QUOTES = (("«", "»"), ('"', '"'), ("“", "”"), ("„", "“"))
EMOJI = tuple("😀😂🤣😊😉😍😎🤔😢😡🙏👍👎🔥❤💩🤡🤮")
MENTIONS = ("[user]", "@user", "[имя]")
HOSTS = ("vk.com", "youtu.be", "pikabu.ru", "t.me", "ok.ru")

_PUNCTUATION = re.compile(r"[.,!?:;…—–]+|(?<=\s)-(?=\s)")

Family = Callable[[str, Random], str]


def augment(text: str, seed: str) -> str:
    """`text` distorted by one or two families that change it; the text itself if no family does."""
    random = Random(seed)
    wanted = random.choice((1, 1, 2))
    for family in random.sample(list(FAMILIES.values()), len(FAMILIES)):
        distorted = family(text, random)
        if distorted != text:
            text, wanted = distorted, wanted - 1
        if not wanted:
            break
    return text


def mask_letters(text: str, random: Random) -> str:
    """`с*ка`, `с@ка`, `п…`, `пи***`."""
    return _change_words(text, random, _mask)


def use_leet(text: str, random: Random) -> str:
    """`д3би1`."""
    return _change_words(text, random, _leet)


def repeat_letters(text: str, random: Random) -> str:
    """`дуууурак`, `!!!!`."""
    longer = _change_words(text, random, _repeat)
    return re.sub(r"([!?)])(?=\s|$)", lambda mark: mark.group() * random.randint(1, 4), longer)


def separate_letters(text: str, random: Random) -> str:
    """`д у р а к`, `д.у.р.а.к`."""
    separator = random.choice(SEPARATORS)
    return _change_words(text, random, lambda word, _: separator.join(word))


def lower_case(text: str, random: Random) -> str:
    """`дурак` for `ДУРАК`."""
    return text.lower()


def drop_punctuation(text: str, random: Random) -> str:
    """The text without the marks that separate sentences and their parts."""
    return " ".join(_PUNCTUATION.sub(" ", text).split())


def add_quotes(text: str, random: Random) -> str:
    """`«дурак»`, or the whole text as a quotation."""
    left, right = random.choice(QUOTES)
    if random.random() < 0.3:
        return f"{left}{text}{right}"
    return _change_words(text, random, lambda word, _: f"{left}{word}{right}")


def add_emoji(text: str, random: Random) -> str:
    """One to three emoji at the end, sometimes of one kind."""
    chosen = random.choices(EMOJI, k=random.randint(1, 3))
    return f"{text}{random.choice((' ', ''))}{''.join(random.choice((chosen, chosen[:1] * 3)))}"


def add_mention(text: str, random: Random) -> str:
    """`[user], дурак`."""
    return f"{random.choice(MENTIONS)}{random.choice((', ', ' '))}{text}"


def add_link(text: str, random: Random) -> str:
    """A link at the end."""
    path = "".join(random.choices("abcdefghijkmnpqrstuvwxyz0123456789", k=random.randint(5, 9)))
    return f"{text} {random.choice((f'https://{random.choice(HOSTS)}/{path}', '[link]'))}"


FAMILIES: dict[str, Family] = {
    "masked letters": mask_letters,
    "leetspeak": use_leet,
    "repeated letters": repeat_letters,
    "separated letters": separate_letters,
    "lower case": lower_case,
    "no punctuation": drop_punctuation,
    "quotes": add_quotes,
    "emoji": add_emoji,
    "mentions": add_mention,
    "links": add_link,
}


def _change_words(text: str, random: Random, change: Family) -> str:
    return change_words(text, SHARE_OF_WORDS, random, change)


def _mask(word: str, random: Random) -> str:
    if random.random() < 0.25:
        return word[: random.randint(1, 2)] + random.choice(TAILS)
    count = random.randint(1, max(1, len(word) // 3))
    places = set(random.sample(range(1, len(word)), count))
    mask = random.choice(MASKS)
    return "".join(mask if place in places else letter for place, letter in enumerate(word))


def _leet(word: str, random: Random) -> str:
    """`word` with about two thirds of the letters that have one replaced by digits and signs."""
    return "".join(LEET.get(letter, letter) if random.random() < 0.67 else letter for letter in word)


def _repeat(word: str, random: Random) -> str:
    place = random.randrange(len(word))
    return word[:place] + word[place] * random.randint(3, 6) + word[place + 1 :]
