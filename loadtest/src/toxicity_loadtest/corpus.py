"""Texts for the load: the first step of a run, before any request is sent.

A bucket takes the test split's own texts of its length. Where there are fewer than the bucket sends requests, the
rest is made by joining real texts and cutting them at a word, so that a prefix cache in the service does not
flatter the figures by repeated texts. The same seed gives the same texts in the same order.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.errors import CorpusError

TEXT_COLUMN = "text"
MOST_TEXTS = 20_000
"""Distinct texts per bucket at most; a longer run starts again from the first."""

ATTEMPTS_PER_TEXT = 5


@dataclass(frozen=True)
class Corpus:
    """Texts in the order in which they are sent."""

    warmup: list[str]
    buckets: list[tuple[Bucket, list[str]]]


def read_texts(path: Path) -> list[str]:
    """The non-empty texts of a UTF-8 CSV with a column `text`, stripped, in file order.

    Raises CorpusError naming the path, and the columns where `text` is not among them.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            if TEXT_COLUMN not in columns:
                raise CorpusError(f"{path} has no column {TEXT_COLUMN!r}; its columns are {columns}")
            texts = [(row[TEXT_COLUMN] or "").strip() for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"cannot read the texts from {path}: {error}") from error
    texts = [text for text in texts if text]
    if not texts:
        raise CorpusError(f"{path} has no row with a text in column {TEXT_COLUMN!r}")
    return texts


def build_corpus(texts: Sequence[str], spec: LoadTestSpec, seed: int) -> Corpus:
    """Texts for the warm-up (of every length in turn) and for each bucket of `spec`. `texts` must not be empty."""
    buckets = length_buckets(spec.bucket_step, spec.max_length)
    measured = _texts_wanted(spec.requested_rps, spec.seconds_per_bucket)
    warmup = _texts_wanted(spec.requested_rps, spec.warmup_seconds)
    chance = random.Random(f"{seed}:warmup")
    return Corpus(
        warmup=[make_text(texts, buckets[i % len(buckets)], chance) for i in range(warmup)],
        buckets=[(bucket, bucket_texts(texts, bucket, measured, seed)) for bucket in buckets],
    )


def bucket_texts(texts: Sequence[str], bucket: Bucket, count: int, seed: int) -> list[str]:
    """`count` texts of the bucket's length, distinct where the bucket has room for it, real ones first choice."""
    chance = random.Random(f"{seed}:{bucket.name}")
    chosen = sorted({text for text in texts if bucket.holds(len(text))})
    chance.shuffle(chosen)
    chosen = chosen[:count]
    known = set(chosen)
    while len(chosen) < count:
        text = make_text(texts, bucket, chance)
        for _ in range(ATTEMPTS_PER_TEXT):
            if text not in known:
                break
            text = make_text(texts, bucket, chance)
        known.add(text)
        chosen.append(text)
    chance.shuffle(chosen)
    return chosen


def make_text(texts: Sequence[str], bucket: Bucket, chance: random.Random) -> str:
    """Real texts joined by spaces and cut to a random length in the bucket, at a word where one ends there."""
    length = chance.randint(bucket.low, bucket.high)
    words = " ".join(_enough(texts, length, chance))
    if words[length : length + 1].isspace() or len(words) == length:
        whole = words[:length].rstrip()
    else:
        whole = words[: words.rfind(" ", 0, length + 1)].rstrip() if " " in words[:length] else ""
    if bucket.holds(len(whole)):
        return whole
    cut = words[:length]
    return cut if cut == cut.rstrip() else "".join(words.split())[:length]


def _enough(texts: Sequence[str], length: int, chance: random.Random) -> Iterator[str]:
    """Random texts until they hold `length` characters that are no white space."""
    missing = length
    while missing > 0:
        text = chance.choice(texts)
        missing -= len("".join(text.split()))
        yield text


def _texts_wanted(requests_per_second: float, seconds: float) -> int:
    return min(MOST_TEXTS, math.ceil(requests_per_second * seconds))
