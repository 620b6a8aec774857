"""Where the sentences of a text are: offsets in the text as it was sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity_api.normal_form.form import is_blank
from toxicity_serving.sentences import find_sentences


def parts(text: str) -> list[str]:
    return [text[span.begin : span.end] for span in find_sentences(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("спасибо", ["спасибо"]),
        ("  Да.  Нет.\n", ["Да.", "Нет."]),
        ("ты тупой. иди отсюда!!! ладно", ["ты тупой.", "иди отсюда!!!", "ладно"]),
        ("Стоит 5 тыс. руб. за шт. Дорого.", ["Стоит 5 тыс. руб. за шт.", "Дорого."]),
        ("привет 🙂 как дела? норм", ["привет 🙂 как дела?", "норм"]),
        ("первое\n\n\u200b\n\nвторое", ["первое", "второе"]),
        ("не.понимаю.зачем", ["не.понимаю.зачем"]),
    ],
)
def test_spans_are_the_sentences_without_the_space_around_them(text: str, sentences: list[str]) -> None:
    assert parts(text) == sentences


@settings(max_examples=200, derandomize=True, database=None)
@given(st.text(st.sampled_from('аБ1.!?…\n \t\u200b🙂\u0301)»"-'), max_size=60))
def test_spans_are_in_order_and_leave_out_nothing_that_a_reader_sees(text: str) -> None:
    position = 0
    for span in find_sentences(text):
        assert position <= span.begin < span.end <= len(text)
        assert is_blank(text[position : span.begin])
        assert not is_blank(text[span.begin : span.end])
        position = span.end
    assert is_blank(text[position:])
