"""Texts for the load, by length in characters or tokens.

A bucket uses the texts of the test split that have its length. If it needs more, real texts are joined and cut at a
word, since a prefix cache would answer repeated texts too fast. The same seed gives the same texts in the same order.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.normal_form.form import normalise_text
from toxicity_api.spec import LoadTestSpec
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.errors import CorpusError
from toxicity_loadtest.lengths import Characters, Unit, read_unit
from toxicity_loadtest.records import CALIBRATION, MIXED, WindowOrder

TEXT_COLUMN = "text"
FIELD_LIMIT = 10_000_000
"""Maximum length of a CSV field in characters, as in training, which wrote the file. Python's default is 131072."""

MAX_TEXTS = 20_000
"""Maximum number of distinct texts per window. A longer window repeats them."""

CALIBRATION_TEXTS = 200
ATTEMPTS_PER_TEXT = 5
CHARACTERS = Characters()


class Corpus:
    """The texts of the test split and of every window. Equal seeds give equal texts in any process."""

    def __init__(self, texts: Sequence[str], spec: LoadTestSpec, seed: int, unit: Unit = CHARACTERS) -> None:
        """`texts` must not be empty."""
        self.buckets = length_buckets(spec.bucket_step, spec.max_length)
        self._texts, self._seed, self._unit = texts, seed, unit
        self._max_length, self._per_request = spec.max_length, spec.texts_per_request

    def window_texts(self, order: WindowOrder) -> list[tuple[str, ...]]:
        """Return the texts of each slot of the order's part, of at most MAX_TEXTS texts for the whole window."""
        most = CALIBRATION_TEXTS if order.name == CALIBRATION else MAX_TEXTS
        each = self._per_request
        count = max(order.parts, min(most // each, order.slots))
        texts = self._whole_window(order, count * each)
        slots = [tuple(texts[begin : begin + each]) for begin in range(0, count * each, each)]
        return slots[order.part :: order.parts]

    def shares(self) -> list[float]:
        """Return the share of the real texts in each bucket. Texts beyond the last bucket count to it."""
        step, last = self.buckets[0].high, len(self.buckets) - 1
        counts = Counter(min((self._unit.length(text) - 1) // step, last) for text in self._texts)
        return [counts[index] / len(self._texts) for index in range(len(self.buckets))]

    def share_beyond(self) -> float:
        """Return the share of the real texts that are longer than the longest bucket."""
        return sum(self._unit.length(text) > self._max_length for text in self._texts) / len(self._texts)

    def _whole_window(self, order: WindowOrder, count: int) -> list[str]:
        chance = random.Random(f"{self._seed}:{order.number}:{order.name}")
        named = {bucket.name: bucket for bucket in self.buckets}
        if order.name in named:
            return bucket_texts(self._texts, named[order.name], count, chance, self._unit)
        if order.name == MIXED:
            return self._mixed_texts(count, chance)
        buckets = [self.buckets[i % len(self.buckets)] for i in range(count)]
        return [make_text(self._texts, bucket, chance, self._unit) for bucket in buckets]

    def _mixed_texts(self, count: int, chance: random.Random) -> list[str]:
        """Draw real texts without replacement until all are used, cut to the longest bucket."""
        order: list[str] = []
        while len(order) < count:
            order += chance.sample(self._texts, min(len(self._texts), count - len(order)))
        return [self._unit.cut(text, self._max_length) for text in order]


def read_corpus(config: LoadTestConfig) -> Corpus:
    """Read the texts, and the tokenizer if lengths are in tokens. Raises CorpusError."""
    unit = read_unit(config.tokenizer_path)
    return Corpus(read_texts(config.texts_path), config.load_test, config.seed, unit)


def read_texts(path: Path) -> list[str]:
    """Read the non-empty texts of a UTF-8 CSV with a column `text`, in normal form and in file order.

    The service scores the normal form, so its length is what a bucket stands for.

    Raises CorpusError, which names the path, and the columns if `text` is missing.
    """
    csv.field_size_limit(FIELD_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            if TEXT_COLUMN not in columns:
                raise CorpusError(f"{path} has no column {TEXT_COLUMN!r}; its columns are {columns}")
            texts = [normalise_text(row[TEXT_COLUMN] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"cannot read the texts from {path}: {error}") from error
    texts = [text for text in texts if text]
    if not texts:
        raise CorpusError(f"{path} has no row with a text in column {TEXT_COLUMN!r}")
    return texts


def bucket_texts(
    texts: Sequence[str], bucket: Bucket, count: int, chance: random.Random, unit: Unit = CHARACTERS
) -> list[str]:
    """Return `count` texts of the bucket's length, distinct if possible, real texts before made ones."""
    chosen = sorted({text for text in texts if bucket.holds(unit.length(text))})
    chance.shuffle(chosen)
    chosen = chosen[:count]
    known = set(chosen)
    while len(chosen) < count:
        text = make_text(texts, bucket, chance, unit)
        for _ in range(ATTEMPTS_PER_TEXT):
            if text not in known:
                break
            text = make_text(texts, bucket, chance, unit)
        known.add(text)
        chosen.append(text)
    chance.shuffle(chosen)
    return chosen


def make_text(texts: Sequence[str], bucket: Bucket, chance: random.Random, unit: Unit = CHARACTERS) -> str:
    """Join real texts by spaces and cut them to a random length in the bucket, at the end of a word if possible."""
    length = chance.randint(bucket.low, bucket.high)
    words = " ".join(_enough(texts, length, chance, unit))
    whole = unit.cut(words, length)
    at_word = words[len(whole) : len(whole) + 1].isspace() or len(whole) == len(words)
    if not at_word:
        whole = whole[: whole.rfind(" ") + 1].rstrip()
    if bucket.holds(unit.length(whole)):
        return whole
    cut = unit.cut(words, length)
    return cut if bucket.holds(unit.length(cut)) else unit.cut("".join(words.split()), length)


def _enough(texts: Sequence[str], length: int, chance: random.Random, unit: Unit) -> Iterator[str]:
    """Yield random texts until they have `length` units without white space."""
    missing = length
    while missing > 0:
        text = chance.choice(texts)
        missing -= max(1, unit.length("".join(text.split())))
        yield text
