"""The report of a run: what it shows over time, and that the file needs nothing else."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest

from support.loadtest.windows import a_record, a_window
from toxicity_api.loadtest_status import Baseline, Comparison, LoadTestStatus
from toxicity_loadtest.figures import bucket_result
from toxicity_loadtest.html_report import build_report
from toxicity_loadtest.measurement import Observation
from toxicity_loadtest.records import Outcome, Window, WindowOrder
from toxicity_loadtest.timeline import bands, cpu, distribution, per_interval, pod_cpu


def a_run() -> list[Window]:
    """Ten requests per second for three seconds, of which the last second fails; ten seconds later a slow window."""
    first = [
        a_record(0.1, start=n / 10, outcome=Outcome.OK if n < 20 else Outcome.HTTP_ERROR, status_code=503)
        for n in range(30)
    ]
    second = [a_record(2.0, start=0.0), a_record(2.0, start=0.5)]
    order = WindowOrder(number=1, name="1-100", rps=10, seconds=3)
    later = order.model_copy(update={"number": 2, "name": "<mixed>", "rps": 1.0})
    return [
        Window(order, first, (), 0.3, "2030-01-01T00:00:00.000Z", 2, ((1.0, 0.2), (2.0, 0.4))),
        Window(later, second, (2.5,), 0.3, "2030-01-01T00:00:10.000Z", 2, ((1.0, 0.5),)),
    ]


def test_intervals_have_the_rates_and_latencies_of_their_requests() -> None:
    rows = per_interval(a_run())
    assert list(rows.index) == [float(second) for second in range(13)]
    assert list(rows["due"])[:4] == [10.0, 10.0, 10.0, 0.0]
    assert (rows["due"][10.0], rows["due"][12.0]) == (2.0, 1.0), "the omitted request was due too"
    assert (rows["answered"].sum(), rows["failed"].sum()) == (22.0, 10.0)
    assert rows["answered"][12.0] == 2.0, "two seconds after they were due"
    assert (rows["p95"][0.0], rows["p95"][10.0]) == (pytest.approx(0.1), pytest.approx(2.0))
    assert math.isnan(rows["p95"][2.0]) and math.isnan(rows["p95"][5.0])


def test_windows_and_cpu_are_placed_by_the_wall_clock() -> None:
    assert [(band.name, band.begin, band.end) for band in bands(a_run())] == [
        ("1-100", 0.0, pytest.approx(3.0)),
        ("<mixed>", 10.0, 13.0),
    ]
    assert cpu(a_run()) == [(1.0, 0.2), (2.0, 0.4), (11.0, 0.5)]


def test_cpu_of_pods_is_placed_at_the_end_of_its_window() -> None:
    observed = [
        Observation(0, 2, {"serve-a": 9.0}),
        Observation(1, 2, {"serve-a": 0.5, "serve-b": 0.75}),
        Observation(2, 1, {"serve-a": 1.5}),
    ]
    assert pod_cpu(a_run(), observed) == {
        "serve-a": [(pytest.approx(3.0), 0.5), (13.0, 1.5)],
        "serve-b": [(pytest.approx(3.0), 0.75)],
    }
    report = build_report(a_status(), a_run(), observed)
    assert report.count("<svg") == 6 and "serve-b" in report


def test_distribution_ends_at_the_slowest_request() -> None:
    points = distribution(a_window(*[a_record(n / 100) for n in range(1, 101)]))
    assert points[0][1:] == (0.01, 0.01) and points[-1] == (1.0, 1.0, 1.0)
    assert distribution(a_window(a_record(outcome=Outcome.TIMEOUT))) == []


class Outside(HTMLParser):
    """Collects what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        loading = ("src", "href", "xlink:href", "data", "srcset", "action")
        self.links += [str(value) for name, value in attrs if name in loading and not str(value).startswith("#")]


def a_status(**fields: object) -> LoadTestStatus:
    results = [bucket_result(window) for window in a_run()]
    base = {"fingerprint": "f", "runId": "1", "state": "Complete", "users": 256, "requestedRps": 10.0}
    status = LoadTestStatus.model_validate(base | fields)
    return status.model_copy(update={"buckets": results[:1], "mixed": results[1]})


def test_file_needs_nothing_else_and_shows_every_chart() -> None:
    report = build_report(a_status(sloP95Seconds=0.75), a_run())
    seen = Outside()
    seen.feed(report)
    assert seen.links == []
    assert "script" not in seen.tags and "@import" not in report
    assert set(re.findall(r"https?://[^\"\s<]+", report)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert report.count("<svg") == 5
    for words in (
        "&lt;mixed&gt;",
        "objective: 0.75 s",
        "failures: none",
        "CPU of the load generator",
        "no previous run",
    ):
        assert words in report
    assert "<mixed>" not in report, "names are escaped"


def test_previous_run_is_shown_beside_this_one() -> None:
    before = bucket_result(a_run()[1]).model_copy(update={"p95_seconds": 0.5})
    baseline = Baseline(fingerprint="e", mixed=before)
    found = Comparison(regressed=True, p95_change=0.5, message="p95 is higher")
    status = a_status().model_copy(update={"baseline": baseline, "comparison": found})
    report = build_report(status, a_run())
    assert '<p class="worse">Regression: p95 is higher.</p>' in report
    assert "<td>previous</td>" in report and "<td>this run</td>" in report


def test_run_without_a_success_has_a_report() -> None:
    windows = [a_window(a_record(outcome=Outcome.TIMEOUT))]
    assert "<svg" in build_report(a_status(failureKinds="1 x timeout"), windows)
