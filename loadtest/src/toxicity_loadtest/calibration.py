"""Measure the maximum rate of the generator before the run, against a constant server on the loopback interface.

The server is a separate process. The rate is requests per second of the generator's CPU time, times the CPU that it
may use. Neither the server nor other processes on the machine lower it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.cpu import usable_cores
from toxicity_loadtest.figures import served, window_seconds
from toxicity_loadtest.records import CALIBRATION, WindowOrder
from toxicity_loadtest.service import Target
from toxicity_loadtest.user_pool import LocalGenerator

UNREACHABLE_RPS = 20_000.0
"""About twice the requests per second that a process on one core can offer."""

REQUEST_SECONDS = 5.0
END_SECONDS = 5.0


@contextmanager
def constant_server(delay: float = 0.0) -> Iterator[str]:
    """Run a constant server that answers after `delay` seconds, and yield its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "toxicity_loadtest.constant_server", str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate(timeout=END_SECONDS)


def measure_ceiling(corpus: Corpus, users: int, seconds: float) -> float | None:
    """Return the requests per second that one process can offer; None without an answer."""
    # in proportion to the CPU, because the slots that nobody is free for take CPU too
    rps = UNREACHABLE_RPS * usable_cores()
    order = WindowOrder(number=0, name=CALIBRATION, rps=rps, seconds=seconds)
    with constant_server() as url:
        target = Target(url, REQUEST_SECONDS, max_outage_seconds=REQUEST_SECONDS, run=CALIBRATION)
        generator = LocalGenerator(target, corpus, users)
        try:
            window = generator.offer(order)
        finally:
            generator.close()
    carried = len(served([window])) / window_seconds(window)
    # cpu_share is relative to usable_cores(): at a share of 1 the process offers its maximum
    return round(carried / window.cpu_share, 1) if carried and window.cpu_share else None
