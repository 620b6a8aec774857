"""Write the report of a run as one HTML file that needs nothing else: the charts are inline SVG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_loadtest.measurement import Observation
from toxicity_loadtest.plots import BLUE, GRID, GUIDE, ORANGE
from toxicity_loadtest.records import Window
from toxicity_loadtest.report import format_facts
from toxicity_loadtest.timeline import Band, bands, cpu, distribution, per_interval, pod_cpu

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FAILURES = "Failures per second"
SIZE = (9.6, 3.0)
"""Inches of a chart."""

MAX_NAMED = 16
"""Most windows whose names fit above a chart."""

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .6rem;text-align:right;white-space:nowrap}th{border-bottom:2px solid #ccc}
td{border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}.worse{color:#b00020}
svg{width:100%;height:auto}pre{background:#f6f6f6;padding:.8rem;white-space:pre-wrap}"""

COLUMNS: tuple[tuple[str, Callable[[BucketResult], float | None]], ...] = (
    ("requests", lambda r: r.requests),
    ("failed", lambda r: r.failures),
    ("offered/s", lambda r: r.requested_rps),
    ("answered/s", lambda r: r.actual_rps),
    ("p50 s", lambda r: r.p50_corrected_seconds),
    ("p95 s", lambda r: r.p95_corrected_seconds),
    ("from", lambda r: r.p95_corrected_low_seconds),
    ("to", lambda r: r.p95_corrected_high_seconds),
    ("p99 s", lambda r: r.p99_corrected_seconds),
    ("open", lambda r: r.open_requests_peak),
    ("within SLO/s", lambda r: r.max_rps_within_slo),
    ("beyond SLO/s", lambda r: r.lowest_rps_beyond_slo),
)


def build_report(status: LoadTestStatus, windows: Sequence[Window], observed: Sequence[Observation] = ()) -> str:
    """Return the HTML document. `windows` must not be empty."""
    table, spans = per_interval(windows), bands(windows)
    measured = {result.name: result for result in _results(status)}
    charts = [
        ("Latency over time, corrected", lambda axes: _latency(axes, table, spans, status.slo_p95_seconds)),
        ("Requests per second", lambda axes: _rates(axes, table, spans)),
        (FAILURES, lambda axes: _line(axes, table["failed"], ORANGE, "failed", spans)),
        ("Distribution of latency", lambda axes: _distributions(axes, _reported(windows, measured))),
        ("CPU of the load generator", lambda axes: _cpu(axes, windows, spans)),
    ]
    pods = pod_cpu(windows, observed)
    if pods:
        charts.append(("CPU of the serving pods", lambda axes: _pods(axes, pods, spans)))
    body = "\n".join(f"<h2>{html.escape(title)}</h2>\n{_svg(title, draw)}" for title, draw in charts)
    title = html.escape(f"Load test {status.fingerprint}, version {status.serving_fingerprint or 'unknown'}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body>\n<h1>{title}</h1>\n<p>{html.escape(_summary(status))}</p>\n{_comparison(status)}\n"
        f"<pre>{html.escape(format_facts(status))}</pre>\n<h2>By text length</h2>\n{_table(_results(status))}\n{body}\n"
        "</body></html>\n"
    )


def _results(status: LoadTestStatus) -> list[BucketResult]:
    return [*status.buckets, *([status.mixed] if status.mixed else [])]


def _summary(status: LoadTestStatus) -> str:
    return (
        f"{status.state}, {status.started_at or ''} to {status.finished_at or ''}. Mode {status.mode},"
        f" {status.arrivals} arrivals, at most {status.users} open requests, route {status.route},"
        f" {status.texts_per_request} text(s) per request, lengths in {status.bucket_unit}."
        f" Replicas: {status.replicas_at_start} at the start, {status.replicas_at_end} at the end."
        f" {status.message or ''}"
    )


def _comparison(status: LoadTestStatus) -> str:
    """The change since the baseline, and both figures of the mix side by side."""
    before, found = status.baseline, status.comparison
    if before is None or status.mixed is None:
        return "<p>There is no previous run to compare with.</p>"
    if found is None:
        return f"<p>The previous run {html.escape(before.fingerprint)} is not comparable.</p>"
    mark = ' class="worse"' if found.regressed else ""
    rows = [
        before.mixed.model_copy(update={"name": "previous"}),
        status.mixed.model_copy(update={"name": "this run"}),
    ]
    word = "Regression" if found.regressed else "No regression"
    return f"<h2>Previous run</h2>\n<p{mark}>{word}: {html.escape(found.message)}.</p>\n{_table(rows)}"


def _table(results: Sequence[BucketResult]) -> str:
    """A row per bucket, with the columns that have a value in any of them."""
    columns = [(name, get) for name, get in COLUMNS if any(get(result) is not None for result in results)]
    head = "".join(f"<th>{name}</th>" for name in ("bucket", *(name for name, _ in columns)))
    rows = (
        f"<tr><td>{html.escape(result.name)}</td>"
        + "".join(f"<td>{'' if (value := get(result)) is None else f'{value:.4g}'}</td>" for _, get in columns)
        + "</tr>"
        for result in results
    )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _reported(windows: Sequence[Window], measured: dict[str, BucketResult]) -> list[Window]:
    """The window of each bucket whose figures are reported: the last one at the reported rate."""
    found = {w.order.name: w for w in windows if w.order.name in measured}
    found |= {
        w.order.name: w
        for w in windows
        if w.order.name in measured and measured[w.order.name].requested_rps == w.order.rps
    }
    return list(found.values())


def _svg(name: str, draw: Callable[[Axes], None]) -> str:
    """Draw a chart with matplotlib and return it as an SVG element with text as text."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.set_ylim(0, max(1.0 if name == FAILURES else 0.0, axes.get_ylim()[1]))
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    target = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(
        r"<metadata>.*?</metadata>", "", target.getvalue()[target.getvalue().index("<svg") :], flags=re.DOTALL
    )


def _latency(axes: Axes, table: pd.DataFrame, spans: Sequence[Band], objective: float | None) -> None:
    _line(axes, table["p50"], BLUE, "p50", spans)
    _line(axes, table["p95"], ORANGE, "p95", ())
    if objective is not None:
        axes.axhline(objective, color=GUIDE, linestyle=":", label=f"objective: {objective:g} s")
    axes.set_ylabel("seconds")


def _rates(axes: Axes, table: pd.DataFrame, spans: Sequence[Band]) -> None:
    _line(axes, table["due"], ORANGE, "due", spans)
    _line(axes, table["answered"], BLUE, "answered", ())


def _line(axes: Axes, values: pd.Series[float], colour: str, label: str, spans: Sequence[Band]) -> None:
    """A line over the run, with the windows."""
    axes.plot(values.index, values.to_numpy(), color=colour, linewidth=1.2, label=label)
    _mark(axes, spans)


def _distributions(axes: Axes, windows: Sequence[Window]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for window in windows:
        points = distribution(window)
        axes.plot(
            [corrected for _, _, corrected in points],
            [100 * share for share, _, _ in points],
            label=window.order.name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("corrected latency, seconds")
    axes.set_ylabel("per cent of requests")


def _pods(axes: Axes, pods: Mapping[str, Sequence[tuple[float, float]]], spans: Sequence[Band]) -> None:
    for name, points in pods.items():
        axes.plot([at for at, _ in points], [cores for _, cores in points], "o-", markersize=3, label=name)
    _mark(axes, spans)
    axes.set_ylabel("cores")


def _mark(axes: Axes, spans: Sequence[Band]) -> None:
    """Mark the windows as alternating bands."""
    for number, band in enumerate(spans):
        axes.axvspan(band.begin, band.end, color=GRID, alpha=0.5 if number % 2 else 0.15, linewidth=0)
        if len(spans) <= MAX_NAMED:
            top = axes.get_xaxis_transform()
            axes.text(
                (band.begin + band.end) / 2, 1.01, band.name, transform=top, ha="center", va="bottom", fontsize=7
            )
    axes.set_xlabel("seconds since the first window began")


def _cpu(axes: Axes, windows: Sequence[Window], spans: Sequence[Band]) -> None:
    points = cpu(windows)
    axes.plot([at for at, _ in points], [100 * share for _, share in points], color=BLUE, linewidth=1.2)
    _mark(axes, spans)
    axes.set_ylabel("per cent of its limit")
    axes.set_ylim(0, 105)
