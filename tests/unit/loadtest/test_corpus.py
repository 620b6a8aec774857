from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.corpus import Corpus, bucket_texts, make_text, read_texts
from toxicity_loadtest.errors import CorpusError
from toxicity_loadtest.records import MIXED, WARMUP, WindowOrder
from toxicity_stage.delimited import FIELD_LIMIT

REAL = ["Какой чудесный день сегодня", "нет", "да ну тебя", "Спасибо большое за подробный ответ, очень помогло"]
CORPORA = {
    "sentences": REAL,
    "one letter": ["а"],
    "one long word": ["х" * 700],
    "odd spaces": ["а\n\nб", "в  г\t\tд"],
}


@pytest.mark.parametrize("texts", CORPORA.values(), ids=CORPORA)
@pytest.mark.parametrize("step", [1, 7, 100])
def test_every_text_is_of_its_buckets_length_and_not_blank_at_an_end(texts: list[str], step: int) -> None:
    for bucket in length_buckets(step, 7 * step + 3):
        made = bucket_texts(texts, bucket, 20, random.Random(1))
        assert len(made) == 20
        assert [text for text in made if not bucket.holds(len(text)) or text != text.strip()] == []


def test_made_text_consists_of_whole_words_of_real_texts_when_the_bucket_is_wide() -> None:
    words = set(" ".join(REAL).split())
    chance = random.Random(3)
    made = [make_text(REAL, Bucket(101, 200), chance) for _ in range(50)]
    assert [text for text in made if not set(text.split()) <= words] == []


def test_real_texts_come_before_made_ones() -> None:
    texts = bucket_texts(REAL, Bucket(1, 100), 10, random.Random(1))
    assert set(REAL) <= set(texts)
    assert len(texts) == len(set(texts)) == 10


def an_order(name: str, **fields: object) -> WindowOrder:
    return WindowOrder.model_validate({"number": 2, "name": name, "rps": 10, "seconds": 4} | fields)


def a_corpus(texts: list[str] = REAL, seed: int = 5, max_length: int = 250) -> Corpus:
    return Corpus(texts, LoadTestSpec(max_length=max_length), seed)


def test_order_depends_on_seed_and_window_alone() -> None:
    texts = a_corpus().window_texts(an_order("101-200"))
    assert a_corpus().window_texts(an_order("101-200")) == texts
    assert a_corpus(seed=6).window_texts(an_order("101-200")) != texts
    assert a_corpus().window_texts(an_order("101-200", number=3)) != texts


@pytest.mark.parametrize("name", ["1-100", MIXED, WARMUP])
def test_parts_of_workers_are_the_slots_of_the_whole(name: str) -> None:
    whole = a_corpus().window_texts(an_order(name))
    parts = [a_corpus().window_texts(an_order(name, part=part, parts=3)) for part in range(3)]
    assert [parts[slot % 3][slot // 3] for slot in range(40)] == whole


def test_window_has_a_text_for_every_request_and_the_warm_up_every_length() -> None:
    corpus = a_corpus()
    assert [bucket.name for bucket in corpus.buckets] == ["1-100", "101-200", "201-250"]
    for bucket in corpus.buckets:
        texts = corpus.window_texts(an_order(bucket.name))
        assert [bucket.holds(len(text)) for (text,) in texts] == [True] * 40
    warmup = corpus.window_texts(an_order(WARMUP))
    assert [corpus.buckets[i % 3].holds(len(text)) for i, (text,) in enumerate(warmup)] == [True] * 40


def test_request_of_several_texts_has_that_many_of_the_buckets_length() -> None:
    corpus = Corpus(REAL, LoadTestSpec(max_length=250, texts_per_request=7), 5)
    slots = corpus.window_texts(an_order("101-200"))
    assert [len(texts) for texts in slots] == [7] * 40
    assert {len(text) > 100 for texts in slots for text in texts} == {True}
    assert len({text for texts in slots for text in texts}) == 280, "a prefix cache would answer repeated texts"
    part = corpus.window_texts(an_order("101-200", part=1, parts=3))
    assert part == slots[1::3]


def test_mixed_window_has_the_real_texts_each_equally_often() -> None:
    texts = [*REAL, "да " * 100]
    mixed = a_corpus(texts).window_texts(an_order(MIXED))
    cut = ("да " * 100)[:250].rstrip()
    assert sorted(mixed) == sorted((text,) for text in [*REAL, cut] * 8)


def test_shares_are_those_of_the_real_texts() -> None:
    corpus = a_corpus(["а", "б" * 100, "в" * 101, "г" * 250, "д" * 251, "е" * 900])
    assert corpus.shares() == [2 / 6, 1 / 6, 3 / 6]
    assert corpus.share_beyond() == 2 / 6


def test_read_texts_skips_empty_ones_and_keeps_quoted_lines(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('text,label\n"да, ""конечно""\nвторая строка",0\n  ,1\n нет ,1\n', encoding="utf-8")
    assert read_texts(path) == ['да, "конечно"\nвторая строка', "нет"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"comment,toxic\n\xd0\xb4\xd0\xb0,1\n", ["'text'", "'comment', 'toxic'"]),
        (b"", ["'text'", "[]"]),
        (b"text,label\n,0\n", ["no row"]),
        (b"text,label\n\xff\xfe,0\n", ["cannot read"]),
    ],
)
def test_read_texts_names_path_and_fault(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "test.csv"
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        read_texts(path)
    assert [word for word in [str(path), *words] if word not in str(caught.value)] == []


def test_read_texts_are_in_normal_form_since_the_service_scores_it(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('text,label\n"с\u200bпаси\u0301бо\r\n",0\n"\u200b",1\n', encoding="utf-8")
    assert read_texts(path) == ["спасибо"]


def test_read_texts_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"absent\.csv"):
        read_texts(tmp_path / "absent.csv")


@pytest.fixture
def pythons_limit() -> Iterator[int]:
    """Set the csv module's default field limit, which is global and which another test may have raised."""
    before = csv.field_size_limit(131_072)
    yield 131_072
    csv.field_size_limit(before)


@pytest.mark.parametrize("characters", [131_072, 131_073, FIELD_LIMIT])
def test_text_that_training_accepts_can_be_read_here(tmp_path: Path, pythons_limit: int, characters: int) -> None:
    assert csv.field_size_limit() == pythons_limit
    path = tmp_path / "test.csv"
    path.write_text("text,label\n" + "x" * characters + ",0\n", encoding="utf-8")
    assert [len(text) for text in read_texts(path)] == [characters]


def test_text_that_training_refuses_is_refused_here(tmp_path: Path, pythons_limit: int) -> None:
    path = tmp_path / "test.csv"
    path.write_text("text,label\n" + "x" * (FIELD_LIMIT + 1) + ",0\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="field limit"):
        read_texts(path)
