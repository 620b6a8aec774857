"""Rules for Cyrillic words: separated letters, look-alikes and lengthened letters. Links and addresses do not change.

The rules were chosen by reading the genuine comments that they change. docs/explanation/text.md has the counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

CYRILLIC = "А-Яа-яЁёІіЇїЄєҐґЎў"
VOWELS = "аеёиоуыэюяіїє"
ALPHABETS = ("абвгдежзийклмнопрстуфхцчшщъыьэюя", "абвгдежзиклмнопрстуфхцчшщэюя", "абвгдеёжзийклмн")
"""The Russian alphabet as lists are lettered: with or without й and ё."""

LOOK_ALIKES = {
    **dict(zip("aceopxykABCEHKMOPTXY", "асеорхукАВСЕНКМОРТХУ", strict=True)),
    **dict(zip("αορκΑΒΕΗΙΚΜΟΡΤΧΓΠΦ", "аоркАВЕНІКМОРТХГПФ", strict=True)),
}
"""Latin and Greek letters and the Cyrillic ones that look the same, as in Unicode's data (unicode.org/reports/tr39).

Latin i is missing, since it stands for и in Russian and for і in Ukrainian words.
"""
SIGNS = {"0": "о", "3": "з", "4": "ч", "6": "б", "@": "а", "$": "с", "€": "е"}
"""Digits and symbols, and the letters that they stand for between Cyrillic letters."""

_LETTER = f"[{CYRILLIC}{''.join(LOOK_ALIKES)}]"
_SIGN = "[.*_·•]"
_PROTECTED = r"(?P<kept>(?<!\w)\w+://\S+|www\.\S+|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.(?:[A-Za-z]{2,}|рф|рус|укр|бел)(?!\w))"
_MAY_BE_PROTECTED = re.compile(r"://|www\.|@")

_MAY_BE_SEPARATED = re.compile(rf"[ .*_·•]{_LETTER}[ .*_·•] ?{_LETTER}(?!\w)")
_BY_SIGNS, _BY_SPACES = (
    rf"(?<!\w){_LETTER}(?P<gap>{gap}){_LETTER}(?:(?P=gap){_LETTER})+(?!\w)" for gap in (rf"\. |{_SIGN}", " ")
)
_ORDINARY_LETTERS = re.compile(r"(?:(?:т [депк]|м б|ж д|д р|н э|[аияобж]|[вксу](?! [вксуо](?: |$)))(?: |$))+")
"""Words of one letter and abbreviations: `а я и в`, `и т д и т п`. Two prepositions do not follow each other."""

_AFTER_LETTER = re.compile(rf"(?:.*\W|_)?[^\W_]{_SIGN}", re.DOTALL).fullmatch
_BEFORE_LETTER = re.compile(rf"{_SIGN}\w(?!\w)").match

# Both begin with the rarer character, which the search finds fast.
_FOREIGN = re.compile(rf"[^\W_{CYRILLIC}](?:(?<=[{CYRILLIC}].)|(?=[{CYRILLIC}]))")
_SYMBOL = re.compile(rf"[@$€](?<=[{CYRILLIC}].)(?=[{CYRILLIC}])")
_WORD = r"[^\W_]+(?:[@$€][^\W_]+)*"
_ALL_CYRILLIC = re.compile(f"[{CYRILLIC}]+").fullmatch
_IS_CYRILLIC = re.compile(f"[{CYRILLIC}]").match
_ACRONYM = re.compile(rf"[A-Z]{{2,}}[{CYRILLIC}]+|[{CYRILLIC}]+[A-Z]{{2,}}")

_LENGTHENED = re.compile(rf"([{CYRILLIC}])\1\1")
_RUN = re.compile(rf"(?i)([{CYRILLIC}])\1\1+")
_CYRILLIC_WORD = f"[{CYRILLIC}]+"

SHORTEST = 4
"""Letters of the shortest word that is shortened. Shorter ones are mostly interjections: `нууу`, `хммм`."""


def clean_words(text: str) -> str:
    """Return the text with the rules applied. A text in which nothing looks unusual costs a few searches."""
    if _MAY_BE_SEPARATED.search(text):
        # letters between spaces may be parts of `и т.д и т.п`, so signs come first
        text = _apply(_BY_SPACES, _joined, _apply(_BY_SIGNS, _joined, text))
    if _FOREIGN.search(text) or _SYMBOL.search(text):
        text = _apply(_WORD, lambda found: in_cyrillic(found.group()), text)
    if _LENGTHENED.search(text.lower()):
        text = _apply(_CYRILLIC_WORD, lambda found: shortened(found.group()), text)
    return text


def _apply(rule: str, change: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace what matches the rule, except in links and addresses."""
    if not _MAY_BE_PROTECTED.search(text):
        return re.sub(rule, change, text)
    return re.sub(f"{_PROTECTED}|{rule}", lambda found: found["kept"] or change(found), text)


def _joined(found: re.Match[str]) -> str:
    gap, text = found["gap"], found.string
    before, after = text[max(0, found.start() - 3) : found.start()], text[found.end() : found.end() + 3]
    letters = "".join(found.group().split(gap))
    is_part = gap == " " and (_AFTER_LETTER(before) or _BEFORE_LETTER(after))
    return letters if not is_part and is_spelled_out(letters, gap) else found.group()


def is_spelled_out(letters: str, gap: str) -> bool:
    """Return whether letters with the same `gap` between them are a word, not initials, abbreviations or a list."""
    folded = "".join(LOOK_ALIKES.get(letter, letter) for letter in letters).lower()
    latin = sum(letter in LOOK_ALIKES for letter in letters)
    vowels = "".join("v" if letter in VOWELS else "c" for letter in folded)
    if 2 * latin > len(letters) or len(set(vowels)) == 1 or any(folded in alphabet for alphabet in ALPHABETS):
        return False
    if len(letters) == 3:
        return vowels == "cvc" and gap != ". " and (gap != "." or letters.islower()) and not _is_ordinary(folded)
    return not _is_ordinary(folded) or gap in "*_·•"


def _is_ordinary(letters: str) -> bool:
    return _ORDINARY_LETTERS.fullmatch(" ".join(letters)) is not None


def in_cyrillic(word: str) -> str:
    """Return the word with Cyrillic letters for look-alikes, or as it is if it is a mixed name such as `4G` or `HRа`.

    All other characters must be look-alikes. Digits and symbols must be between Cyrillic letters.
    """
    if _ALL_CYRILLIC(word):
        return word
    known = sum(_IS_CYRILLIC(character) is not None for character in word)
    if not known or (_ACRONYM.fullmatch(word) and _is_lower(word)):
        return word
    letters = [_as_cyrillic(word, index, known) for index in range(len(word))]
    return word if None in letters else "".join(filter(None, letters))


def _is_lower(word: str) -> bool:
    """Return whether the Cyrillic letters of the word are in lower case."""
    return all(character.islower() for character in word if _IS_CYRILLIC(character))


def _as_cyrillic(word: str, index: int, known: int) -> str | None:
    """Return the Cyrillic letter that a character of the word looks like, or None."""
    character = word[index]
    if _IS_CYRILLIC(character):
        return character
    if stands_for := SIGNS.get(character):
        around = word[index - 1 : index] + word[index + 1 : index + 2]
        if known < 3 or len(around) < 2 or not all(map(_IS_CYRILLIC, around)):
            return None
        return stands_for.upper() if around.isupper() else stands_for
    decomposed = unicodedata.normalize("NFKD", character)
    letter, marks = LOOK_ALIKES.get(decomposed[0]), decomposed[1:]
    if letter is None or not all(map(unicodedata.combining, marks)):
        return None
    composed = unicodedata.normalize("NFC", letter + marks)
    return composed if len(composed) == 1 else letter


def shortened(word: str) -> str:
    """Return the word with one letter for each lengthened one, if it is lengthened beyond what is ordinary.

    Ordinary are interjections, and three equal letters at the start or the end (`ооочень`, `СССРовский`) or as a
    misspelt double consonant (`рассстрел`).
    """
    runs = list(_RUN.finditer(word))
    short = _RUN.sub(r"\1", word)
    if not runs or len(short) < SHORTEST or "змееед" in word.lower():
        return word
    if len(runs) > 1 or len(runs[0].group()) > 3 or _is_vowel_inside(runs[0], word):
        return short
    return word


def _is_vowel_inside(run: re.Match[str], word: str) -> bool:
    return run[1].lower() in VOWELS and run.start() > 0 and run.end() < len(word)
