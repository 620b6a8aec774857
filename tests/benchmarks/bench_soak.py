"""Measure what ordinary clients see beside hostile ones, and whether the service's memory stays flat.

Run `make bench-soak` on an otherwise idle machine. It fails when the p95 of the ordinary clients is more than twice
the undisturbed one, when one of their requests fails, or when the memory grows.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.bench_serving import configuration, table
from benchmarks.serving_phases import served
from support.serving.hostile import HOSTILE, Traffic, hostile_clients, measure

SAMPLE_SECONDS = 1.0
MAX_RATIO = 2.0
MAX_GROWTH = 1.1
"""Largest memory of the second half of the soak relative to that of the first."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True, help="model folder of a training stage")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--gpus", type=int, default=0)
    options = parser.parse_args()
    memory: list[float] = []
    with served(configuration(options)) as (address, _):
        url = httpx.URL(address)
        measure(url, options.clients, 5)  # warm
        quiet = measure(url, options.clients, min(60, options.seconds))
        [process] = [one for one in psutil.Process().children() if "toxicity_serving" in one.cmdline()]
        with sampled(process, memory), hostile_clients(url):
            loud = measure(url, options.clients, options.seconds)
    ratio, growth = loud.p95 / quiet.p95, growth_of(memory)
    print(f"{options.clients} ordinary clients, {len(HOSTILE)} hostile ones for {options.seconds} s\n")
    heads = ["clients", "requests", "p50, s", "p95, s", "failed"]
    print(table(heads, [row("undisturbed", quiet), row("beside hostile ones", loud)]))
    print(f"p95 {ratio:.2f} times the undisturbed one; memory {max(memory):.0f} MB at most, growth {growth:.3f}")
    return int(ratio > MAX_RATIO or growth > MAX_GROWTH or set(loud.statuses) != {200})


def row(name: str, traffic: Traffic) -> list[str]:
    median = sorted(traffic.seconds)[len(traffic.seconds) // 2]
    failed = sum(traffic.statuses.values()) - traffic.statuses[200]
    return [name, str(len(traffic.seconds)), f"{median:.3f}", f"{traffic.p95:.3f}", str(failed)]


def growth_of(memory: list[float]) -> float:
    """Return the largest memory of the last half divided by that of the first half, without the first tenth."""
    steady = memory[len(memory) // 10 :]
    half = len(steady) // 2
    return max(steady[half:]) / max(steady[:half])


@contextmanager
def sampled(process: psutil.Process, memory: list[float]) -> Iterator[None]:
    """Append the resident memory in MB to `memory` every SAMPLE_SECONDS until the block ends."""
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(SAMPLE_SECONDS):
            memory.append(process.memory_info().rss / 1e6)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
