"""What this generator could offer at most, measured before the run against a constant server on the loopback.

The server is a process of its own. What is counted is requests per second of the generator's CPU time, times the CPU
it may use, so that neither the server nor a busy machine lowers the figure.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.figures import served, window_seconds
from toxicity_loadtest.records import CALIBRATION, WindowOrder
from toxicity_loadtest.service import Target
from toxicity_loadtest.user_pool import LocalGenerator

UNREACHABLE_RPS = 20_000.0
REQUEST_SECONDS = 5.0
END_SECONDS = 5.0


@contextmanager
def constant_server(delay: float = 0.0) -> Iterator[str]:
    """The URL of a constant server that runs meanwhile and answers after `delay` seconds."""
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
    """Requests/s that a process with this CPU can offer; None when it got no answer at all."""
    order = WindowOrder(number=0, name=CALIBRATION, rps=UNREACHABLE_RPS, seconds=seconds)
    with constant_server() as url:
        target = Target(url, REQUEST_SECONDS, max_outage_seconds=REQUEST_SECONDS, run=CALIBRATION)
        generator = LocalGenerator(target, corpus, users)
        try:
            window = generator.offer(order)
        finally:
            generator.close()
    rps = len(served([window])) / window_seconds(window)
    # cpu_share is of usable_cores(): the rate at a share of 1 is what the process can offer
    return round(rps / window.cpu_share, 1) if rps and window.cpu_share else None
