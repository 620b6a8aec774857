"""Plots of a data set and of a model's quality; the only module that uses matplotlib.

Each function builds a Figure with the object API, which has no global state and needs no display; `save` writes it.
Blue and orange are Okabe and Ito's (Color Universal Design, 2008): colour-blind readers can distinguish them. In grey
print they differ in brightness and hatching.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxicity_api.results import Metrics
from toxicity_training.eda import Eda, LengthFigures, Lengths
from toxicity_training.evaluation.intervals import INTERVAL_PERCENT
from toxicity_training.evaluation.metrics import Bin, BucketFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 150
WIDTH, HEIGHT = 7.2, 4.4
"""size of a figure in inches"""
HARMLESS, TOXIC, LINE, GUIDE, GRID = "#0072B2", "#E69F00", "#222222", "#767676", "#DDDDDD"
HATCH = "///"
"""hatching of areas of the toxic class"""
HISTOGRAM_BINS, LOG_BINS = 50, 32
BEYOND_P99 = 1.15
"""end of a clipped axis, as a multiple of the 99th percentile"""
PERCENTILE_STYLES = ((50, "-"), (95, "--"), (98, "-."), (99, ":"))
ON_LINES: dict[str, Any] = {
    "padding": 4,
    "fontsize": 9,
    "zorder": 4,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}
"""style of a bar's number; keeps it readable where a line crosses it"""


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` as PNG at 150 dpi. Raises OSError."""
    figure.savefig(path, dpi=DPI, format="png")


def label_balance(eda: Eda) -> Figure:
    """Bar chart of the number and share of rows per label."""
    figure, axes = _figure(f"Class balance of {eda.rows:,} comments", height=2.6)
    counts = (eda.rows - eda.toxic, eda.toxic)
    bars = axes.barh(["harmless", "toxic"], counts, color=[HARMLESS, TOXIC], height=0.62, edgecolor=LINE)
    bars[1].set_hatch(HATCH)
    axes.bar_label(bars, [f"{n:,} ({100 * n / eda.rows:.1f} %)" for n in counts], **ON_LINES)
    axes.invert_yaxis()
    axes.set_xlim(0, max(counts) * 1.22)
    axes.set_xlabel("comments")
    axes.set_ylabel("label")
    axes.tick_params(axis="y", length=0)
    _plain_numbers(axes.xaxis)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    return figure


def length_histogram(lengths: Sequence[int], figures: LengthFigures, unit: str) -> Figure:
    """Histogram of text lengths in `unit` (characters or tokens) with lines at percentiles 50, 95, 98 and 99.

    The axis ends beyond the 99th percentile; its label says how many longer texts are not shown.
    """
    figure, axes = _figure(f"Length of {figures.rows:,} comments in {unit}")
    edges = _linear_edges(figures)
    axes.hist(lengths, bins=edges, color=HARMLESS, edgecolor="white", linewidth=0.5)
    for percent, style in PERCENTILE_STYLES:
        value = getattr(figures, f"p{percent}")
        label = f"{percent} % up to {value:,.0f}"
        axes.axvline(value, color=LINE, linestyle=style, linewidth=1.5, label=label)
    axes.set_xlim(0, edges[-1])
    clipped = sum(length > edges[-1] for length in lengths)
    rest = f"{clipped:,} longer comments, up to {figures.max:,} {unit}, not shown" if clipped else "all shown"
    axes.set_xlabel(f"length in {unit} ({rest})")
    axes.set_ylabel("comments per bin")
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    _legend(figure, columns=len(PERCENTILE_STYLES))
    return figure


def length_by_label(lengths: Sequence[int], labels: Sequence[bool], figures: Lengths) -> Figure:
    """Overlaid histograms of the labels' lengths in characters on a logarithmic axis, each normalised to its rows."""
    figure, axes = _figure(f"Length of {figures.all.rows:,} comments in characters by label")
    edges = _log_edges(figures.all)
    if figures.harmless is not None:
        chosen = [length for length, toxic in zip(lengths, labels, strict=True) if not toxic]
        _share_histogram(axes, chosen, edges, figures.harmless, is_toxic=False)
    if figures.toxic is not None:
        chosen = [length for length, toxic in zip(lengths, labels, strict=True) if toxic]
        _share_histogram(axes, chosen, edges, figures.toxic, is_toxic=True)
    _log_axis(axes, "characters", figures.all)
    axes.set_ylabel("share of the label's comments per bin")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _legend(figure, columns=1)
    return figure


def pr_curve(scores: Sequence[float], labels: Sequence[bool], metrics: Metrics) -> Figure:
    """Precision-recall curve of the test split, with the operating point of the threshold and the base rate."""
    from sklearn.metrics import precision_recall_curve

    figure, axes = _figure(
        f"Precision and recall on {metrics.test_samples:,} test comments", width=6.0, height=5.4
    )
    precision, recall, _ = precision_recall_curve(labels, scores)
    curve = f"model, average precision {_text(metrics.pr_auc)}"
    axes.step(recall, precision, where="post", color=HARMLESS, linewidth=2, label=curve)
    point = f"threshold {metrics.threshold:.3f}: precision {metrics.precision:.3f}, recall {metrics.recall:.3f}"
    axes.scatter([metrics.recall], [metrics.precision], s=80, color=TOXIC, edgecolors=LINE, label=point, zorder=4)
    toxic, rows = sum(labels), len(labels)
    base = f"base rate {toxic / rows:.3f}: {toxic:,} of {rows:,} are toxic"
    axes.axhline(toxic / rows, color=GUIDE, linestyle="--", linewidth=1.5, label=base)
    axes.set(xlabel="recall of the toxic class", ylabel="precision of the toxic class")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    _legend(figure, columns=1)
    return figure


def reliability_diagram(bins: Sequence[Bin], metrics: Metrics) -> Figure:
    """Share of toxic rows against the mean score of each bin, above the number of rows per bin."""
    title = f"Reliability of the score on {metrics.test_samples:,} test comments"
    figure, axes = _figure(title, width=6.0, height=5.6, panels=(3, 1))
    means = [b.mean_score for b in bins if b.mean_score is not None]
    shares = [b.toxic_share for b in bins if b.toxic_share is not None]
    axes.plot([0, 1], [0, 1], color=GUIDE, linestyle="--", linewidth=1.5, label="perfectly calibrated")
    label = f"model, expected calibration error {_text(metrics.calibration_error)}"
    axes.plot(means, shares, color=HARMLESS, marker="o", markersize=6, linewidth=2, label=label, clip_on=False)
    axes.set(ylabel="share of toxic comments", xlim=(0, 1), ylim=(0, 1))
    _legend(figure, columns=2)
    counts = figure.axes[1]
    bars = counts.bar([b.low for b in bins], [b.rows for b in bins], width=1 / len(bins), align="edge")
    for bar in bars:
        bar.set(facecolor=HARMLESS, edgecolor="white")
    counts.bar_label(bars, [f"{b.rows:,}" for b in bins], padding=2, fontsize=8)
    counts.set(xlabel="score p(toxic), ten equal bins", ylabel="comments")
    counts.set_ylim(0, 1.25 * max(1, *(b.rows for b in bins)))
    counts.set_xticks([b.low for b in bins] + [1.0])
    _plain_numbers(counts.yaxis)
    return figure


def f1_by_length(buckets: Sequence[BucketFigures], metrics: Metrics) -> Figure:
    """Bar chart of the F1 of the toxic class by length in characters, with the rows of each bucket.

    A bucket without toxic rows and decisions has no bar.
    """
    figure, axes = _figure(
        f"F1 of the toxic class by length in characters, {metrics.test_samples:,} test comments", width=8.4
    )
    places = range(len(buckets))
    bars = axes.bar(places, [b.f1 or 0.0 for b in buckets], color=HARMLESS, width=0.72)
    axes.bar_label(bars, ["n/a" if b.f1 is None else f"{b.f1:.2f}" for b in buckets], **ON_LINES)
    low, high = metrics.f1_low, metrics.f1_high
    overall = f"all lengths: {metrics.f1:.3f}"
    if low is not None and high is not None:
        overall += f", {INTERVAL_PERCENT} % interval {low:.3f} to {high:.3f}"
        axes.axhspan(low, high, color=GUIDE, alpha=0.25, linewidth=0, zorder=1.5)
    axes.axhline(metrics.f1, color=LINE, linestyle="--", linewidth=1.5, label=overall)
    axes.set_xticks(places, [f"{b.name}\n{b.rows:,}\n{b.toxic:,}" for b in buckets], fontsize=8.5)
    # labels of the three lines of the tick labels, which begin 7 points below the axis
    place: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "ha": "right",
        "va": "top",
    }
    axes.annotate("characters\ncomments\ntoxic", (0, 0), (-4, -7), fontsize=8.5, color=GUIDE, **place)
    axes.set_xlabel("length of the comment in characters")
    axes.set_ylabel("F1")
    axes.set_ylim(0, 1.1)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    _legend(figure, columns=1)
    return figure


def _figure(
    title: str, *, width: float = WIDTH, height: float = HEIGHT, panels: Sequence[int] = (1,)
) -> tuple[Figure, Axes]:
    """(figure, its first axes); the panels are stacked with these relative heights and share the x axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=list(panels))
    for axes in grid[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=GRID, linewidth=0.7)
    grid[0, 0].set_title(title, loc="left", fontsize=12, fontweight="bold", pad=10)
    return figure, grid[0, 0]


def _legend(figure: Figure, *, columns: int) -> None:
    """Adds the legend below the axes, where it covers no bars or curves."""
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


def _plain_numbers(axis: Axis) -> None:
    """Formats ticks as whole numbers with thousands separators."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _text(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _linear_edges(figures: LengthFigures) -> list[float]:
    """Bin edges of equal integer width at half-integers, from 0.5 to beyond the 99th percentile."""
    width = max(1, math.ceil(figures.p99 * BEYOND_P99 / HISTOGRAM_BINS))
    bins = math.ceil(min(figures.max, figures.p99 * BEYOND_P99) / width)
    return [0.5 + width * index for index in range(max(1, bins) + 1)]


def _log_edges(figures: LengthFigures) -> list[float]:
    """Log-spaced bin edges at half-integers, so that every bin contains at least one integer."""
    low, high = max(1, figures.min), max(1, figures.max) + 1
    ratio = high / low
    return [edge - 0.5 for edge in sorted({round(low * ratio ** (i / LOG_BINS)) for i in range(LOG_BINS + 1)})]


def _log_axis(axes: Axes, unit: str, figures: LengthFigures) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    _plain_numbers(axes.xaxis)
    extent = f"{figures.min:,} to {figures.max:,}"
    axes.set_xlabel(f"length in {unit} (logarithmic axis, all shown: {extent})")


def _share_histogram(
    axes: Axes, lengths: Sequence[int], edges: Sequence[float], figures: LengthFigures, *, is_toxic: bool
) -> None:
    """Adds a filled step histogram with an outline, and a line at the median."""
    name, colour, hatch = ("toxic", TOXIC, HATCH) if is_toxic else ("harmless", HARMLESS, None)
    style, line = ("--", "dashed line") if is_toxic else ("-", "solid line")
    weights = [1 / len(lengths)] * len(lengths)
    label = f"{name}: {figures.rows:,} comments, median {figures.p50:,.0f} ({line})"
    axes.hist(
        lengths, edges, weights=weights, histtype="stepfilled", color=colour, alpha=0.5, hatch=hatch, label=label
    )
    axes.hist(lengths, edges, weights=weights, histtype="step", color=colour, linewidth=1.8)
    axes.axvline(figures.p50, color=LINE, linestyle=style, linewidth=1.8)
