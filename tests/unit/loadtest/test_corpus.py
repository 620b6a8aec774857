from __future__ import annotations

import random
from pathlib import Path

import pytest

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.corpus import bucket_texts, build_corpus, make_text, read_texts
from toxicity_loadtest.errors import CorpusError

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
        made = bucket_texts(texts, bucket, 20, seed=1)
        assert len(made) == 20
        assert [text for text in made if not bucket.holds(len(text)) or text != text.strip()] == []


def test_made_text_consists_of_whole_words_of_real_texts_when_the_bucket_is_wide() -> None:
    words = set(" ".join(REAL).split())
    chance = random.Random(3)
    made = [make_text(REAL, Bucket(101, 200), chance) for _ in range(50)]
    assert [text for text in made if not set(text.split()) <= words] == []


def test_real_texts_come_before_made_ones() -> None:
    texts = bucket_texts(REAL, Bucket(1, 100), 10, seed=1)
    assert set(REAL) <= set(texts)
    assert len(texts) == len(set(texts)) == 10


def test_order_depends_on_the_seed_alone() -> None:
    spec = LoadTestSpec(max_length=300, seconds_per_bucket=4, warmup_seconds=1)
    assert build_corpus(REAL, spec, seed=5) == build_corpus(REAL, spec, seed=5)
    assert build_corpus(REAL, spec, seed=5) != build_corpus(REAL, spec, seed=6)


def test_corpus_has_a_text_for_every_request_and_warms_up_on_every_length() -> None:
    corpus = build_corpus(REAL, LoadTestSpec(max_length=250, seconds_per_bucket=4, warmup_seconds=1), seed=5)
    assert [(bucket.name, len(texts)) for bucket, texts in corpus.buckets] == [
        ("1-100", 40),
        ("101-200", 40),
        ("201-250", 40),
    ]
    edges = [bucket for bucket, _ in corpus.buckets]
    assert [edges[i % 3].holds(len(text)) for i, text in enumerate(corpus.warmup)] == [True] * 10


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


def test_read_texts_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"absent\.csv"):
        read_texts(tmp_path / "absent.csv")
