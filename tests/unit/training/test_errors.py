"""The error report: wrong decisions, the most confident first, with the labels that may be wrong themselves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from toxicity_training.evaluation.errors import COLUMNS, find_errors, write_errors

TEXTS = ["ну ты и умник", "спасибо", "дурак, сам", "ясно", "тупица", "привет", "ага\nну, да", "пока"]
SCORES = [0.05, 0.1, 0.9, 0.3, 0.95, 0.99, 0.55, 0.2]
LABELS = [True, False, True, False, True, False, False, True]


def test_errors_are_the_wrong_decisions_the_most_confident_first() -> None:
    errors = find_errors(TEXTS, SCORES, LABELS, 0.5)
    assert [(row.text, row.error, row.toxic) for row in errors] == [
        ("привет", "false alarm", False),
        ("ну ты и умник", "missed", True),
        ("пока", "missed", True),
        ("ага\nну, да", "false alarm", False),
    ]
    assert [row.confidence for row in errors] == pytest.approx([0.98, 0.9, 0.6, 0.1])
    assert [row.characters for row in errors] == [6, 13, 4, 10]


def test_the_confidence_is_measured_from_the_threshold() -> None:
    errors = {row.text: row.confidence for row in find_errors(TEXTS, SCORES, LABELS, 0.2)}
    assert errors["ну ты и умник"] == pytest.approx(0.75)
    assert errors["ясно"] == pytest.approx(0.125)
    assert "пока" not in errors, "a score at the threshold is toxic"


def test_a_label_is_suspicious_where_the_score_is_that_of_the_other_label() -> None:
    """The mean score of toxic rows is 0.525, that of the others 0.485."""
    errors = {row.text: row.suspicious for row in find_errors(TEXTS, SCORES, LABELS, 0.5)}
    assert errors == {"привет": True, "ну ты и умник": True, "пока": True, "ага\nну, да": True}
    clear = find_errors(["a", "b", "c", "d"], [0.9, 0.8, 0.1, 0.6], [True, True, False, False], 0.5)
    assert [(row.text, row.suspicious) for row in clear] == [("d", False)]


def test_a_model_without_errors_has_none() -> None:
    assert find_errors(["a", "b"], [0.9, 0.1], [True, False], 0.5) == []


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_at_the_end_of_the_score_is_no_division_by_zero(threshold: float) -> None:
    errors = find_errors(["a", "b"], [1.0, 0.0], [False, True], threshold)
    assert all(0 <= row.confidence <= 1 for row in errors)
    assert errors


def test_errors_are_written_line_by_line(tmp_path: Path) -> None:
    write_errors(find_errors(TEXTS, SCORES, LABELS, 0.5), tmp_path / "errors.csv")
    with (tmp_path / "errors.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(COLUMNS)
    assert rows[1] == ["false alarm", "0.9800", "0.9900", "0", "1", "6", "привет"]
    assert rows[4][-1] == "ага\nну, да"
