"""Titles, units, counts and positions of the plots, read from the figures, and the files written."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest

from toxicity_training import plots
from toxicity_training.dataset import Example
from toxicity_training.eda import Eda, explore, measure_lengths
from toxicity_training.evaluation.measure import Evaluation
from toxicity_training.evaluation.metrics import by_family, by_length, evaluate_scores, reliability
from toxicity_training.report import EvaluationReport, write_eda, write_evaluation

SCORES = [0.95, 0.85, 0.65, 0.45, 0.32, 0.12, 0.05, 0.03]
LABELS = [True, False, True, True, False, False, False, False]
LENGTHS = [20, 50, 150, 150, 250, 1500, 990, 60]
METRICS = evaluate_scores(SCORES, LABELS, 0.5)
EVALUATION = Evaluation(
    metrics=METRICS,
    texts=["я" * length for length in LENGTHS],
    scores=SCORES,
    labels=LABELS,
    buckets=by_length(SCORES, LABELS, LENGTHS, 0.5),
    families=by_family(["swapped letters"] * 7 + [None], SCORES, SCORES[::-1], LABELS, 0.5),
    reliability=reliability(SCORES, LABELS),
)


def comments(rows: int) -> list[Example]:
    random = Random(3)
    return [Example("я" * (1 + int(random.lognormvariate(4.5, 1))), index % 4 == 0) for index in range(rows)]


COMMENTS = [*comments(1200), Example("я" * 7403, False)]
CHARACTERS = [len(comment.text) for comment in COMMENTS]
TOKENS = [length // 4 + 8 for length in CHARACTERS]


def texts(figure: Any) -> list[str]:
    """All visible texts of `figure`."""
    import matplotlib.text

    figure.draw_without_rendering()  # tick labels come into being only now
    return [artist.get_text() for artist in figure.findobj(matplotlib.text.Text) if artist.get_text()]


def seen(figure: Any) -> str:
    return "\n".join(texts(figure))


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:24])
    return width, height


def figures() -> dict[str, Any]:
    eda = explore(COMMENTS, TOKENS)
    labels = [comment.toxic for comment in COMMENTS]
    return {
        "labels": plots.label_balance(eda),
        "len_text_chars": plots.length_histogram(CHARACTERS, eda.characters.all, "characters"),
        "len_text_tokens": plots.length_histogram(TOKENS, eda.tokens.all, "tokens"),
        "labels_len": plots.length_by_label(CHARACTERS, labels, eda.characters),
        "pr_curve": plots.pr_curve(SCORES, LABELS, METRICS),
        "reliability": plots.reliability_diagram(EVALUATION.reliability, METRICS),
        "f1_by_length": plots.f1_by_length(EVALUATION.buckets, METRICS),
    }


def test_every_plot_has_a_title_with_the_number_of_comments_and_labelled_axes() -> None:
    for name, figure in figures().items():
        axes = figure.axes[0]
        rows = "1,201" if name.startswith("l") else "8"
        assert f" {rows} " in axes.get_title(loc="left"), name
        assert figure.axes[-1].get_xlabel(), name
        assert all(part.get_ylabel() for part in figure.axes), name


def test_no_legend_title_or_label_is_cut_off_at_the_edge_of_its_plot() -> None:
    for name, figure in figures().items():
        figure.draw_without_rendering()
        width, height = figure.bbox.size
        artists = [text for legend in figure.legends for text in legend.get_texts()]
        for axes in figure.axes:
            artists += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for box in [artist.get_window_extent() for artist in artists if artist.get_text()]:
            assert min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height, name


def test_label_balance_shows_counts_and_shares() -> None:
    figure: Any = plots.label_balance(explore(COMMENTS, TOKENS))
    assert {"901 (75.0 %)", "300 (25.0 %)", "harmless", "toxic", "comments"} <= set(texts(figure))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [901, 300]
    assert [bool(bar.get_hatch()) for bar in figure.axes[0].patches] == [False, True]


def test_length_histogram_marks_percentiles_and_says_what_is_clipped() -> None:
    eda = measure_lengths(CHARACTERS)
    figure: Any = plots.length_histogram(CHARACTERS, eda, "characters")
    axes = figure.axes[0]
    assert [line.get_xdata()[0] for line in axes.lines] == [eda.p50, eda.p95, eda.p98, eda.p99]
    assert len({line.get_linestyle() for line in axes.lines}) == 4
    for percent, value in ((50, eda.p50), (95, eda.p95), (98, eda.p98), (99, eda.p99)):
        assert f"{percent} % up to {value:,.0f}" in texts(figure)
    end = axes.get_xlim()[1]
    clipped = sum(length > end for length in CHARACTERS)
    assert 0 < clipped <= len(CHARACTERS) * 0.01
    assert axes.get_xlabel() == (
        f"length in characters ({clipped} longer comments, up to 7,403 characters, not shown)"
    )
    # bars and the clipped rows together are all rows
    assert sum(bar.get_height() for bar in axes.patches) + clipped == len(CHARACTERS)


@pytest.mark.parametrize("lengths", [[7] * 20, [1], [1, 2], list(range(1, 60)), [8192] * 3 + [1]])
def test_length_histogram_of_an_even_data_set_shows_every_row(lengths: list[int]) -> None:
    figure: Any = plots.length_histogram(lengths, measure_lengths(lengths), "tokens")
    assert figure.axes[0].get_xlabel() == "length in tokens (all shown)"
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == len(lengths)


def test_length_by_label_normalises_each_label_and_names_its_rows_and_median() -> None:
    eda = explore(COMMENTS, TOKENS).characters
    figure: Any = plots.length_by_label(CHARACTERS, [c.toxic for c in COMMENTS], eda)
    assert eda.toxic is not None and eda.harmless is not None
    assert f"harmless: 901 comments, median {eda.harmless.p50:,.0f} (solid line)" in texts(figure)
    assert f"toxic: 300 comments, median {eda.toxic.p50:,.0f} (dashed line)" in texts(figure)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == f"length in characters (logarithmic axis, all shown: {eda.all.min} to 7,403)"
    assert [line.get_xdata()[0] for line in axes.lines] == [eda.harmless.p50, eda.toxic.p50]
    assert axes.get_xlim()[1] > 7403
    assert not any(label.startswith("1e") or "$" in label for label in texts(figure))


def test_length_by_label_draws_the_one_label_there_is() -> None:
    lengths = [5, 6, 7]
    figures = explore([Example("я" * n, False) for n in lengths], lengths).characters
    figure: Any = plots.length_by_label(lengths, [False] * 3, figures)
    assert "harmless: 3 comments, median 6 (solid line)" in texts(figure)
    assert "toxic" not in seen(figure)


def test_pr_curve_shows_the_threshold_s_point_and_the_base_rate() -> None:
    figure: Any = plots.pr_curve(SCORES, LABELS, METRICS)
    axes = figure.axes[0]
    (point,) = axes.collections
    assert point.get_offsets().tolist() == [[pytest.approx(2 / 3), pytest.approx(2 / 3)]]
    assert "threshold 0.500: precision 0.667, recall 0.667" in texts(figure)
    assert "base rate 0.375: 3 of 8 are toxic" in texts(figure)
    assert axes.lines[1].get_ydata()[0] == 3 / 8


def test_pr_curve_s_area_is_the_average_precision() -> None:
    random = Random(5)
    labels = [True, False] + [random.random() < 0.3 for _ in range(200)]
    scores = [min(1.0, max(0.0, random.gauss(0.6 if toxic else 0.4, 0.2))) for toxic in labels]
    metrics = evaluate_scores(scores, labels, 0.5)
    figure: Any = plots.pr_curve(scores, labels, metrics)
    curve = figure.axes[0].lines[0]
    assert curve.get_drawstyle() == "steps-post"
    x, y = curve.get_xdata(), curve.get_ydata()
    area = sum((x[i] - x[i + 1]) * y[i] for i in range(len(x) - 1))
    assert area == pytest.approx(metrics.pr_auc)


def test_reliability_diagram_shows_each_bin_and_its_rows() -> None:
    figure: Any = plots.reliability_diagram(EVALUATION.reliability, METRICS)
    upper, lower = figure.axes
    points = upper.lines[1]
    assert list(points.get_xdata()) == [b.mean_score for b in EVALUATION.reliability if b.rows]
    assert list(points.get_ydata()) == [b.toxic_share for b in EVALUATION.reliability if b.rows]
    assert [bar.get_height() for bar in lower.patches] == [2, 1, 0, 1, 1, 0, 1, 0, 1, 1]
    assert [text.get_text() for text in lower.texts] == ["2", "1", "0", "1", "1", "0", "1", "0", "1", "1"]
    assert f"model, expected calibration error {METRICS.calibration_error:.3f}" in texts(figure)


def test_f1_by_length_shows_the_rows_under_each_bar() -> None:
    figure: Any = plots.f1_by_length(EVALUATION.buckets, METRICS)
    axes = figure.axes[0]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks[:3] == ["1-100\n3\n1", "101-200\n2\n2", "201-300\n1\n0"]
    assert ticks[-1] == ">1000\n1\n0"
    bars = {bucket.name: text.get_text() for bucket, text in zip(EVALUATION.buckets, axes.texts, strict=False)}
    # 1-100: one found, one false alarm; 101-200: one found, one missed; both F1 2/3
    assert (bars["1-100"], bars["101-200"], bars["201-300"], bars[">1000"]) == ("0.67", "0.67", "n/a", "n/a")
    assert "characters\ncomments\ntoxic" in texts(figure)
    assert f"all lengths: 0.667, 95 % interval {METRICS.f1_low:.3f} to {METRICS.f1_high:.3f}" in texts(figure)


def test_plots_leave_no_global_state() -> None:
    import sys

    figures()
    assert "matplotlib.pyplot" not in sys.modules


def test_write_evaluation_leaves_json_and_three_plots(tmp_path: Path) -> None:
    write_evaluation(EVALUATION, tmp_path / "made" / "evaluation")
    folder = tmp_path / "made" / "evaluation"
    names = ["errors.csv", "evaluation.json", "f1_by_length.png", "pr_curve.png", "reliability.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert png_size(folder / "pr_curve.png") == (900, 810)
    assert png_size(folder / "reliability.png") == (900, 840)
    assert png_size(folder / "f1_by_length.png") == (1260, 660)
    document = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    report = EvaluationReport.model_validate(document)
    assert report.metrics == METRICS
    assert (report.buckets, report.reliability) == (EVALUATION.buckets, EVALUATION.reliability)
    assert report.misspellings == EVALUATION.families
    assert [(row.error, row.characters) for row in report.errors] == [("false alarm", 50), ("missed", 150)]
    assert document["metrics"]["truePositives"] == 2


def test_write_eda_leaves_json_and_four_plots(tmp_path: Path) -> None:
    returned = write_eda(COMMENTS, TOKENS, tmp_path)
    names = ["eda.json", "labels.png", "labels_len.png", "len_text_chars.png", "len_text_tokens.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert png_size(tmp_path / "labels.png") == (1080, 390)
    for name in names[2:]:
        assert png_size(tmp_path / name) == (1080, 660)
    assert Eda.model_validate_json((tmp_path / "eda.json").read_text(encoding="utf-8")) == returned
