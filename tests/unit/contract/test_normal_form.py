"""The normal form: one prompt for all ways to write what a reader sees as the same text, and no other change."""

from __future__ import annotations

import csv
import gzip
import os
import re
import unicodedata
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.ordinary_texts import ENGLISH, LINKS_AND_CODE, ORDINARY, RUSSIAN, UKRAINIAN
from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.characters import INVISIBLE, PICTOGRAPHS
from toxicity_api.normal_form.form import VISIBLE_PATTERN, UnknownFormError, is_blank, normalise_text

CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
STRAY = "\u200b\u200c\u200d\u200e\u200f\u2060\u2063\ufeff\u00ad\u034f\u061c\u180e\ufe00\ufe0e\ufe0f\x00\x08\x1b\x7f\x9f"
STRAY += "\u115f\u3164\uffa0\ufff9\U000e0041\U000e0101\u202c\u2069"
STRESS = "\u0301\u0300\u0341"
ZALGO = "\u0335\u0353\u036f\u0489\u20dd\u0488"
SPACES = "\xa0\u2003\u2009\u202f\u3000\u2800"

# letters, signs and everything that a rule looks at
NASTY = st.text(
    st.sampled_from(
        "аоуеиклмнрстдйёїгѐѝАОСТХДaceopxykABCdlmi03468@$€ .*_·!?-\n\r\t:/wу́"
        + CONTROLS + STRAY + STRESS + ZALGO + SPACES
        + "\u0306\u0308אבع😀❤🏽🏴\u20e3#\u1100\u1161क\u0301ａ𝐚ᾳάᾰ\U000e007f\ud800"
    ),
    max_size=30,
)  # fmt: skip
READABLE = st.sampled_from([*RUSSIAN, *ENGLISH, *UKRAINIAN])


def ids(text: str) -> list[int]:
    return LetterTokenizer()(normalise_text(text), add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_does_not_change(text: str) -> None:
    assert normalise_text(text) == text


@settings(max_examples=300)
@given(NASTY | st.text(max_size=20))
@example("д у р.а.к.и.н")
@example("a\ufe0f\u200d😀")
@example("а\u0301\u0306\u1100\u0301\u1161")
@example("\u202e\u0301и\u0306\u202c")
def test_the_form_of_a_form_is_itself(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)


@settings(max_examples=300)
@given(NASTY | st.text(max_size=20))
def test_a_text_is_blank_if_nothing_is_left(text: str) -> None:
    assert is_blank(text) == (normalise_text(text) == "")
    if not any(0xD800 <= ord(c) < 0xE000 or ord(c) > 0xFFFF for c in text):
        assert is_blank(text) == (re.search(VISIBLE_PATTERN, text) is None)


@settings(max_examples=100)
@given(READABLE, st.integers(0, 2**32), st.sampled_from([*STRAY, *SPACES]))
def test_an_invisible_character_anywhere_gives_the_same_prompt(text: str, seed: int, added: str) -> None:
    random = Random(seed)
    if added in SPACES:
        changed = text.replace(" ", added)
    else:
        places = sorted(random.choices(range(len(text) + 1), k=5), reverse=True)
        changed = text
        for place in places:
            # after a sign that is also an emoji the selector shows it as one
            if not (added == "\ufe0f" and text[place - 1 : place] in set("©®™‼⁉")):
                changed = changed[:place] + added + changed[place:]
    assert ids(changed) == ids(text)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", ORDINARY)
def test_canonically_equivalent_texts_give_the_same_prompt(text: str, form: str) -> None:
    assert ids(unicodedata.normalize(form, text)) == ids(text)  # type: ignore[arg-type]


@settings(max_examples=100)
@given(READABLE, st.sampled_from([*STRESS, ZALGO, *ZALGO]), st.integers(0, 2**32))
def test_stress_and_stacked_marks_on_vowels_give_the_same_prompt(text: str, marks: str, seed: int) -> None:
    random = Random(seed)
    stressed = "".join(c + marks if c in "аоуыэюяеиАОУЭЮЯЕИ" and random.random() < 0.5 else c for c in text)
    decomposed = unicodedata.normalize("NFD", text)
    also = "".join(c + marks if c in "ыуаоэяю" else c for c in decomposed)
    assert ids(stressed) == ids(text)
    assert ids(also) == ids(text)


@pytest.mark.parametrize("text", [line for line in (*RUSSIAN, *ENGLISH) if not set("()\n0123456789") & set(line)])
def test_overridden_text_is_read_in_the_order_that_is_shown(text: str) -> None:
    assert ids(f"\u202e{text[::-1]}\u202c") == ids(text)
    assert ids(f"\u202e{unicodedata.normalize('NFC', text)[::-1]}") == ids(text)
    # spaces at the end of a line are not part of the override
    half = next(place for place in range(len(text) // 2, len(text)) if text[place] != " ")
    assert ids(f"{text[:half]}\u202e{text[half:][::-1]}\u202c") == ids(text)
    isolates = "".join(f"\u2066{letter}\u2069" for letter in reversed(text))
    assert ids(f"\u2067{isolates}\u2069") == ids(text)


def test_right_to_left_letters_keep_their_order() -> None:
    assert normalise_text("имя \u2068محمد\u2069, да") == "имя محمد, да"
    assert normalise_text("\u202bשלום עולם\u202c") == "שלום עולם"


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("  текст\r\n", "текст"),
        ("раз\r\nдва\rтри\u2028четыре\x85пять", "раз\nдва\nтри\nчетыре\nпять"),
        ("за\u0301мок", "замок"),
        ("зáмок", "замок"),
        ("тупѐй", "тупей"),
        ("ты тупoй", "ты тупой"),
        ("ДYPAK и дyрaк", "ДУРАК и дурак"),
        ("дурαк, дурａк, дур𝐚к", "дурак, дурак, дурак"),
        ("еë и зeлëный", "еë и зелёный".replace("еë", "её")),
        ("разг0н, пи3дец, 4то, е6у4ий", "разгон, пиздец, 4то, ебучий"),
        ("дур@к и пи$атель", "дурак и писатель"),
        ("СССР на 3еленой", "СССР на 3еленой"),
        ("ты д у р а к!", "ты дурак!"),
        ("д.у.р.а.к.", "дурак."),
        ("д*у*р*а*к", "дурак"),
        ("д. у. р. а. к", "дурак"),
        ("д у р a к", "дурак"),
        ("х у й", "хуй"),
        ("с у к а", "сука"),
        ("Д У Р А К", "ДУРАК"),
        ("дурааак", "дурак"),
        ("дуррррак", "дурак"),
        ("тттуууупоой", "тупоой"),
        ("Дураааак", "Дурак"),
        ("к\u200bр\u00adас\u2060иво", "красиво"),
        ("1\xa0000", "1 000"),
        ("h\u0337e\u0336llo", "hello"),
        ("ﬁ №½", "ﬁ №½"),
    ],
)
def test_form_of(written: str, form: str) -> None:
    assert normalise_text(written) == form


@pytest.mark.parametrize(
    "text", ["", " \n", "\u200b\u200d", "\u0301\u0301", "\ufe0f", "\u202e\u202c", "\u2800", "\ud800"]
)
def test_text_without_a_visible_character_is_blank(text: str) -> None:
    assert normalise_text(text) == "" and is_blank(text)


def test_joiners_and_selectors_stay_in_emoji_only() -> None:
    assert normalise_text("❤\ufe0fа\ufe0f🏳\ufe0f\u200d🌈б\u200dв") == "❤\ufe0fа🏳\ufe0f\u200d🌈бв"
    assert normalise_text("1\ufe0f\u20e3 1\ufe0f") == "1\ufe0f\u20e3 1"


@pytest.mark.parametrize(
    "text", ["б у " * 5_000 + "х", "a." * 9_999 + "@ дyр", "ж д р " * 3_000, "а@" * 9_999, "🏴\U000e0061" * 9_999]
)
def test_text_of_the_greatest_length_that_looks_like_many_words_is_no_work_without_end(text: str) -> None:
    """With a pattern that tries every way to read such a text, this test would not end."""
    assert normalise_text(normalise_text(text)) == normalise_text(text)


def test_links_and_addresses_do_not_change_beside_words_that_do() -> None:
    for link in (word for text in LINKS_AND_CODE[:2] for word in text.split() if ":" in word or "@" in word):
        assert normalise_text(f"дурааак {link} т\u200bут") == f"дурак {link} тут"


def test_version_0_leaves_texts_and_an_unknown_version_is_refused() -> None:
    assert normalise_text(" но\u0301\r\n", 0) == " но\u0301\r\n"
    with pytest.raises(UnknownFormError, match=r"version 9 .* knows \[0, 1\]: use the release that trained"):
        normalise_text("текст", 9)
    assert normalise_text("но\u0301", NORMAL_FORM_VERSION) == "но"


def test_character_classes_hold_what_unicode_says() -> None:
    invisible = re.compile(f"[{INVISIBLE}]")
    for character in map(chr, range(0x3000)):
        if unicodedata.category(character) == "Cf" and not 0x600 <= ord(character) <= 0x8FF:
            assert invisible.match(character), hex(ord(character))
    assert not any(c.isalnum() for c in map(chr, range(0x2000)) if re.match(f"[{PICTOGRAPHS}]", c))


@pytest.mark.dataset
def test_at_most_one_genuine_comment_in_200_changes() -> None:
    with gzip.open(os.environ["TOXICITY_DATASET"], "rt", encoding="utf-8", newline="") as file:
        texts = [row["comment"] for row in csv.DictReader(file)]
    changed = [text for text in texts if normalise_text(text) != unicodedata.normalize("NFC", text).strip()]
    assert len(texts) == 14_412
    assert 0 < len(changed) <= len(texts) // 200
