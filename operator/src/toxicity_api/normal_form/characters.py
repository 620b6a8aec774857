"""Rules for characters: canonical composition, invisible characters, combining marks, spaces and line ends.

The character classes are properties of Unicode 15 that later versions of Unicode only add to.
"""

from __future__ import annotations

import re
import unicodedata

from toxicity_api.normal_form.reading_order import CONTROLS, in_reading_order

_TAGS = "\U000e0020-\U000e007f"
_OF_EMOJI = f"\u200d\ufe0f{_TAGS}"
"""Joiner, selector and tags, which are parts of some emoji and invisible elsewhere."""

_ALWAYS_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200c\u200e\u200f\u2060-\u2065\u206a-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e0fff"
)
INVISIBLE = f"{_ALWAYS_INVISIBLE}{_OF_EMOJI}{CONTROLS}"
"""Control characters and characters with the property Default_Ignorable_Code_Point, for a character class."""

SURROGATES = "\ud800-\udfff"
"""Halves of characters, which JSON can contain and UTF-8 cannot."""

MARKS = (
    "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\u2de0-\u2dff\ua66f-\ua672\ua674-\ua67d"
    "\ua69e\ua69f\ufe20-\ufe2f"
)
"""Combining marks for Latin, Greek and Cyrillic letters and for symbols. Other scripts need theirs, such as vowels."""

SPACES = "\xa0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000"

PICTOGRAPHS = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001f0ff\U0001f170-\U0001f1e5\U0001f201-\U0001f2ff\U0001f300-\U0001f3fa"
    "\U0001f400-\U0001faff\U0001fc00-\U0001fffd"
)
"""Characters with the property Extended_Pictographic, and symbols in the same blocks."""

_SKIN = "\U0001f3fb-\U0001f3ff"

_REMOVED = re.compile(f"[{_ALWAYS_INVISIBLE}{SURROGATES}]+")
_EMOJI_PARTS = re.compile(
    rf"[\U0001f3f4{_OF_EMOJI}](?P<kept>"
    rf"(?<=\U0001f3f4)(?:[\U000e0020-\U000e007e]+\U000e007f)?"  # a black flag, or the flag of a region
    rf"|(?<=[{PICTOGRAPHS}]\ufe0f)|(?<=[0-9#*]\ufe0f)(?=\u20e3)"  # shown as an emoji, or on a key
    rf"|(?:(?<=[{PICTOGRAPHS}{_SKIN}]\u200d)|(?<=[{PICTOGRAPHS}]\ufe0f\u200d))(?=[{PICTOGRAPHS}])"  # joined emoji
    rf")?"
)
_MAY_BE_OF_EMOJI = re.compile(f"[{_OF_EMOJI}]")
_LOOSE_MARKS = re.compile(rf"(?P<key>[0-9#*]\ufe0f?\u20e3(?![{MARKS}]))|[{MARKS}]+")
_MARK = re.compile(f"[{MARKS}]")
_SPACE = re.compile(f"[{SPACES}]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_STRESSED = {"ѐ": "е", "ѝ": "и", "Ѐ": "Е", "Ѝ": "И"}
"""Vowels with a grave accent, which NFC composes although no alphabet has them as letters."""

_STRESSED_VOWEL = re.compile(f"[{''.join(_STRESSED)}]")


def clean_characters(text: str) -> str:
    """Return the text in NFC, in reading order, without invisible characters and loose marks, and stripped.

    Marks are loose if they compose with no letter: stress, stacked marks. й, ё, ї and é are letters of their own.
    """
    text = _composed(_REMOVED.sub("", text))
    text = _LINE_END.sub("\n", text)
    ordered = in_reading_order(text)
    if ordered is not text:
        text = _composed(ordered)
    if _MAY_BE_OF_EMOJI.search(text):
        text = _composed(_EMOJI_PARTS.sub(_kept, text))
    return _SPACE.sub(" ", text).strip()


def _composed(text: str) -> str:
    """Return the text in NFC without loose marks."""
    text = unicodedata.normalize("NFC", text)
    if _MARK.search(text):
        # letters that a mark kept apart may compose
        text = unicodedata.normalize("NFC", _LOOSE_MARKS.sub(lambda found: found["key"] or "", text))
    return _STRESSED_VOWEL.sub(lambda found: _STRESSED[found.group()], text)


def _kept(found: re.Match[str]) -> str:
    return "" if found["kept"] is None else found.group()
