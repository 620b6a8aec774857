"""Lengths in tokens of a real byte-pair tokenizer, trained here."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from toxicity_api.buckets import length_buckets
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.corpus import Corpus, bucket_texts
from toxicity_loadtest.errors import CorpusError
from toxicity_loadtest.lengths import Characters, Unit, read_unit
from toxicity_loadtest.records import MIXED, WindowOrder

REAL = [
    "Какой чудесный день сегодня, не правда ли", "нет", "да ну тебя, дурак", "ну и ну",
    "Спасибо большое за подробный ответ, он мне очень помог в этом непростом деле",
]  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(REAL, trainers.BpeTrainer(vocab_size=150, special_tokens=["?"]))
    file = tmp_path_factory.mktemp("model") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.fixture
def unit(path: Path) -> Unit:
    return read_unit(path)


def test_length_in_tokens_is_that_of_the_tokenizer(path: Path, unit: Unit) -> None:
    tokenizer = Tokenizer.from_file(str(path))
    lengths = [unit.length(text) for text in REAL]
    assert lengths == [len(tokenizer.encode(text).ids) for text in REAL]
    assert lengths != [len(text) for text in REAL]
    assert read_unit(None).length("да") == 2


def test_cut_text_is_the_longest_beginning(unit: Unit) -> None:
    text = " ".join(REAL)
    for most in range(1, unit.length(text) + 2):
        cut = unit.cut(text, most)
        assert text.startswith(cut) and unit.length(cut) <= most
    assert unit.cut(text, 10_000) == text
    assert Characters().cut("да нет", 3) == "да"


@pytest.mark.parametrize("step", [5, 20])
def test_texts_of_a_bucket_have_its_length_in_tokens(unit: Unit, step: int) -> None:
    for bucket in length_buckets(step, 3 * step):
        made = bucket_texts(REAL, bucket, 20, random.Random(1), unit)
        assert [text for text in made if not bucket.holds(unit.length(text)) or text != text.strip()] == []


def test_shares_and_the_mix_are_in_tokens(unit: Unit) -> None:
    corpus = Corpus(REAL, LoadTestSpec(bucket_step=4, max_length=12, bucket_unit="tokens"), 5, unit)
    lengths = [unit.length(text) for text in REAL]
    assert corpus.shares() == [
        sum(length <= 4 for length in lengths) / 5,
        sum(4 < length <= 8 for length in lengths) / 5,
        sum(length > 8 for length in lengths) / 5,
    ]
    assert corpus.share_beyond() == sum(length > 12 for length in lengths) / 5
    mixed = corpus.window_texts(WindowOrder(number=1, name=MIXED, rps=10, seconds=1))
    assert max(unit.length(text) for (text,) in mixed) <= 12


def test_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot read the tokenizer from .*tokenizer\.json"):
        read_unit(tmp_path / "tokenizer.json")
