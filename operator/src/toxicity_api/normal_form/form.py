"""`normalise_text`, and what it leaves of a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.characters import INVISIBLE, MARKS, SPACES, SURROGATES, clean_characters
from toxicity_api.normal_form.words import clean_words


def _portable(characters: str) -> str:
    """Return a character class with escapes that JavaScript reads as well, without characters beyond U+FFFF."""
    ranges = re.findall(r"(.)(?:-(.))?", characters, re.DOTALL)
    named = ([f"\\u{ord(end):04x}" for end in pair if end] for pair in ranges if ord(pair[0]) < 0x10000)
    return "".join("-".join(ends) for ends in named)


VISIBLE_PATTERN = rf"[^\s{_portable(INVISIBLE + MARKS + SPACES)}]"
"""A character that the normal form keeps, as a pattern for JSON schemas."""

_VISIBLE = re.compile(rf"[^\s{INVISIBLE}{SURROGATES}{MARKS}{SPACES}]")

# Letters, digits and marks that no rule for characters touches. Most texts have no others.
_PLAIN = re.compile(r"[\t\n -~А-яЁёІіЇїЄєҐґ«»“”„‘’–—…№]*")


class UnknownFormError(ValueError):
    """The version of the normal form is newer than this code."""


def normalise_text(text: str, version: int = NORMAL_FORM_VERSION) -> str:
    """Return the normal form of a text, which is empty for a text without a visible character.

    The result is in normal form itself. Raises UnknownFormError.
    """
    try:
        form = FORMS[version]
    except KeyError:
        raise UnknownFormError(
            f"version {version} of the normal form is unknown; this release knows {sorted(FORMS)}: use the release"
            " that trained the model, or a later one"
        ) from None
    return form(text)


def is_blank(text: str) -> bool:
    """Return whether the normal form of a text is empty. Stops at the first visible character."""
    return _VISIBLE.search(text) is None


def _unchanged(text: str) -> str:
    return text


def _version_1(text: str) -> str:
    return clean_words(text.strip() if _PLAIN.fullmatch(text) else clean_characters(text))


FORMS: Mapping[int, Callable[[str], str]] = {0: _unchanged, 1: _version_1}
"""The form of each version. A released version does not change, since models were trained with it."""
