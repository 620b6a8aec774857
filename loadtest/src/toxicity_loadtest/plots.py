"""Draw two plots of a run with matplotlib: p95 latency and requests per second, by text length.

The object API of matplotlib has no global state and needs no display. The colours are Okabe and Ito's blue and orange
(Color Universal Design, 2008), and the markers differ too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toxicity_api.loadtest_status import BucketResult
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.records import MIXED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P95_FILE, RPS_FILE = "p95.png", "rps.png"
DPI = 150
HEIGHT, MIN_WIDTH, INCHES_PER_BUCKET = 4.4, 7.2, 0.62
BLUE, ORANGE, GUIDE, GRID = "#0072B2", "#D55E00", "#555555", "#DDDDDD"


def write_plots(folder: Path, results: Sequence[BucketResult], spec: LoadTestSpec) -> None:
    """Write p95.png and rps.png. `results` must not be empty. Raises OSError."""
    latency_plot(results, spec).savefig(folder / P95_FILE, dpi=DPI, format="png")
    rate_plot(results, spec).savefig(folder / RPS_FILE, dpi=DPI, format="png")


def latency_plot(results: Sequence[BucketResult], spec: LoadTestSpec) -> Figure:
    """Plot p95 per bucket in seconds, as served and corrected, and the objective. No success leaves a gap."""
    figure, axes = _figure(f"95th percentile of latency by text length in {spec.bucket_unit}", len(results))
    corrected = [_or_gap(result.p95_corrected_seconds) for result in results]
    _draw(axes, results, corrected, "s--", ORANGE, "corrected for coordinated omission")
    _draw(axes, results, [_or_gap(result.p95_seconds) for result in results], "o-", BLUE, "as served")
    objective = spec.slo.p95_seconds
    axes.axhline(objective, color=GUIDE, linestyle=":", label=f"objective: {objective:g} s")
    axes.set_ylabel("p95 latency, seconds")
    _finish(figure, axes, results, spec)
    return figure


def rate_plot(results: Sequence[BucketResult], spec: LoadTestSpec) -> Figure:
    """Plot successful and requested requests per second per bucket."""
    figure, axes = _figure(f"Requests per second by text length in {spec.bucket_unit}", len(results))
    positions = range(len(results))
    asked = [spec.requested_rps if r.requested_rps is None else r.requested_rps for r in results]
    bars = axes.bar(
        positions, [r.actual_rps for r in results], color=BLUE, width=0.66, label="successes per second"
    )
    axes.bar_label(bars, [f"{r.actual_rps:.3g}" for r in results], padding=4, fontsize=9)
    axes.plot(positions, asked, "_", color=ORANGE, markersize=26, markeredgewidth=2.5, label="requested")
    axes.set_ylabel("requests per second")
    _finish(figure, axes, results, spec)
    return figure


def _draw(
    axes: Axes, results: Sequence[BucketResult], values: Sequence[float], style: str, colour: str, label: str
) -> None:
    """Draw a line through the buckets. The mixed window has no length, so it is a separate point."""
    points = list(zip(range(len(results)), values, strict=True))
    lengths = [point for point, result in zip(points, results, strict=True) if result.name != MIXED]
    others = [point for point, result in zip(points, results, strict=True) if result.name == MIXED]
    axes.plot([x for x, _ in lengths], [y for _, y in lengths], style, color=colour, label=label)
    axes.plot([x for x, _ in others], [y for _, y in others], style[0], color=colour)


def _or_gap(seconds: float | None) -> float:
    return float("nan") if seconds is None else seconds


def _figure(title: str, buckets: int) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    width = max(MIN_WIDTH, 2 + INCHES_PER_BUCKET * buckets)
    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def _finish(figure: Figure, axes: Axes, results: Sequence[BucketResult], spec: LoadTestSpec) -> None:
    axes.set_xticks(range(len(results)), [result.name for result in results], rotation=45, ha="right")
    axes.set_xlim(-0.6, len(results) - 0.4)
    axes.set_xlabel(f"text length in {spec.bucket_unit}")
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.12 * top)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
