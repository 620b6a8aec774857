"""Whether a text is Russian: short comments by language, and the data set, whose comments are Russian."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import pytest

from support.serving import word_engine
from toxicity_serving.language import is_russian

COMMENTS = Path(word_engine.__file__).parent / "comments_by_language.tsv"


def missed() -> tuple[Counter[str], Counter[str], list[str]]:
    """Return the comments per language, those not recognised as another language, and the Russian ones that were."""
    total, missed, wrong = Counter[str](), Counter[str](), []
    for line in COMMENTS.read_text().splitlines():
        language, comment = line.split("\t")
        total[language] += 1
        if is_russian(comment):
            missed[language] += 1
        elif language in ("ru", "und"):
            wrong.append(comment)
    return total, missed, wrong


def test_no_short_russian_comment_and_none_without_letters_is_flagged() -> None:
    total, _, wrong = missed()
    assert wrong == []
    assert total["ru"] >= 40
    assert total["und"] >= 5


@pytest.mark.parametrize(("language", "most"), [("en", 0), ("uk", 14), ("bg", 16), ("kk", 0), ("de", 0)])
def test_short_comments_in_another_language_are_flagged(language: str, most: int) -> None:
    """Half of the short Ukrainian and Bulgarian comments could be Russian by their letters."""
    total, unseen, _ = missed()
    assert total[language] > unseen[language]
    assert unseen[language] <= most


@pytest.mark.parametrize(
    ("text", "russian"),
    [
        ("дeбил", True),  # a Latin e
        ("TЫ TYПOЙ YPOД", True),  # Latin look-alikes
        ("Смотрел The Black Dahlia Murder, понравилось", True),
        ("Дякую из Киева, вы опять за своё", True),
        ("съел и объявил, съёмки идут, разъехались", True),
        ("почитай https://example.com/very/long/address/of/a/page вот тут", True),
        ("с ним", True),
        ("спасибо " * 200 + "thank you " * 2000, True),  # the beginning decides
        ("privet kak dela", False),
        ("я не бачу, що тут такого смішного, але хай буде", False),
        ("виж какво ще стане утре, аз няма да идвам", False),
        ("съобщението беше изтрито", False),
        ("я ніколи не говорыў пра гэта", False),
    ],
)
def test_letters_and_frequent_words_decide(text: str, russian: bool) -> None:
    assert is_russian(text) is russian


@pytest.mark.dataset
def test_almost_no_comment_of_the_data_set_is_flagged() -> None:
    """The comments are Russian, apart from some that consist of titles or links in Latin letters."""
    with gzip.open(os.environ["TOXICITY_DATASET"], "rt") as file:
        comments = [row["comment"] for row in csv.DictReader(file)]
    flagged = [comment for comment in comments if not is_russian(comment)]
    assert len(comments) > 10_000
    assert len(flagged) <= 0.002 * len(comments), flagged
