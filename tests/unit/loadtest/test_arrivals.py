"""Arrival times: their number, their distribution, and what a queue makes of them."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from support.loadtest.windows import SimulatedService
from toxicity_api.spec import LoadTestSpec
from toxicity_api.spec.loadtest import Arrivals, Bursts
from toxicity_loadtest.arrivals import normalise, replay
from toxicity_loadtest.errors import TraceError
from toxicity_loadtest.figures import bucket_result
from toxicity_loadtest.records import WindowOrder
from toxicity_loadtest.trace import read_trace


def an_order(arrivals: Arrivals, rps: float = 50.0, seconds: float = 40.0, **fields: object) -> WindowOrder:
    return WindowOrder.model_validate(
        {"number": 3, "name": "1-100", "rps": rps, "seconds": seconds, "arrivals": arrivals} | fields
    )


def variation(times: list[float]) -> float:
    """The coefficient of variation of the gaps: 0 for even arrivals, 1 for a Poisson process."""
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def test_poisson_arrivals_have_the_number_and_the_gaps_of_the_process() -> None:
    times = list(an_order("poisson").times)
    assert len(times) == 2000
    assert times == sorted(times)
    assert times[0] >= 0 and times[-1] < 40.0
    assert variation(times) == pytest.approx(1.0, abs=0.1)
    counts = [sum(second <= time < second + 1 for time in times) for second in range(40)]
    assert statistics.pvariance(counts) == pytest.approx(50.0, rel=0.5), "a Poisson count has its mean as variance"


def test_even_arrivals_have_equal_gaps() -> None:
    assert list(an_order("uniform", rps=4.0, seconds=1.0).times) == [0.0, 0.25, 0.5, 0.75]


def test_arrivals_depend_on_seed_and_window_only() -> None:
    first = an_order("poisson", seed=1)
    assert list(first.times) == list(an_order("poisson", seed=1, part=1, parts=2).times), (
        "the same for every worker"
    )
    assert list(first.times) != list(an_order("poisson", seed=2).times)
    assert list(first.times) != list(an_order("poisson", seed=1, number=4).times), (
        "a repeated rate is a new sample"
    )


@pytest.mark.parametrize("arrivals", ["poisson", "uniform"])
def test_bursts_keep_the_average_and_multiply_the_rate(arrivals: Arrivals) -> None:
    bursts = Bursts(every_seconds=10.0, share=0.2, factor=6.0)
    times = an_order(arrivals, bursts=bursts).times
    inside = [time for time in times if 4.0 <= time % 10.0 < 6.0]
    assert len(times) == 2000
    calm, burst = (len(times) - len(inside)) / 32.0, len(inside) / 8.0
    assert burst / calm == pytest.approx(6.0, rel=0.1 if arrivals == "poisson" else 0.02)
    assert list(times) == sorted(times)


def test_trace_is_replayed_at_the_rate_of_the_window_and_repeated() -> None:
    trace = normalise([100.0, 100.1, 100.2, 101.2, 102.0])
    assert (trace[0], trace[-1]) == (0.0, 4.0)
    times = replay(trace, rps=10.0, seconds=3.0)
    assert len(times) == 30
    assert list(times[:5]) == pytest.approx([0.0, 0.02, 0.04, 0.24, 0.4])
    assert times[5] == pytest.approx(0.5), "the next cycle begins a mean gap after the last time"


def test_queue_looks_shorter_than_it_is_with_even_arrivals() -> None:
    """One server takes 0.1 s, at a load of 85 %: even arrivals never wait, Poisson arrivals queue."""
    service = SimulatedService(lambda name: 0.1, users=512)
    even, poisson = (
        bucket_result(service.offer(an_order(arrivals, rps=8.5, seconds=600.0)))
        for arrivals in ("uniform", "poisson")
    )
    assert even.p95_corrected_seconds == pytest.approx(0.1)
    assert poisson.p95_corrected_seconds is not None and poisson.p95_corrected_seconds > 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0\n1\nsoon\n", "line 3 of the file of loadTest.trace is 'soon': write one time in seconds per line"),
        ("# recorded\n\n0.5\n", "a trace needs at least two times, not 1"),
        ("0\n2\n1\n", "time 3 is before the previous one"),
        ("1\n1\n", "all times are equal"),
        ("0\nnan\n", "line 2 of the file of loadTest.trace is 'nan'"),
    ],
)
def test_unusable_trace_names_the_field_and_the_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text(text)
    with pytest.raises(TraceError, match=r"loadTest\.trace") as refusal:
        read_trace(path)
    assert words in str(refusal.value)


def test_trace_may_have_comments_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text("# seconds\n3\n\n4\n6\n")
    assert read_trace(path) == pytest.approx((0.0, 2 / 3, 2.0))
    with pytest.raises(TraceError, match=r"cannot read the file of loadTest\.trace"):
        read_trace(tmp_path / "none")


def test_open_limit_and_arrivals_follow_from_the_profile() -> None:
    def of(**fields: object) -> tuple[int, str]:
        spec = LoadTestSpec.model_validate(fields)
        return spec.open_limit, spec.arrival_times

    assert of() == (256, "poisson")
    assert of(profile="original") == (16, "uniform")
    assert of(users=300) == (300, "poisson")
    assert of(maxOpenRequests=8, arrivals="uniform") == (8, "uniform")
