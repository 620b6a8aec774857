"""Peak resident memory of the load test by the number of its requests: `make bench-loadtest`. Prints a Markdown table.

Each row is a process of its own with the generator's imports. It keeps the records of the windows as a run does, then
computes all figures and writes all files. Nothing is sent, so an hour of requests takes minutes. The open requests of
a run take memory too: `--users` users and their connections are not part of it.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

RPS = 1000.0
KIBIBYTES_PER_MEGABYTE = 1e6 / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60])
    parser.add_argument("--windows", type=int, default=12, help="windows of equal length")
    parser.add_argument("--one", type=int, help="keep so many minutes in this process, and print its row")
    options = parser.parse_args()
    if options.one:
        print_row(options.one, options.windows)
        return 0
    print(f"\n### Memory, {RPS:g} requests/s in {options.windows} windows\n")
    print("| minutes | requests | requests.csv, MB | peak resident, MB | time of figures and files, s |")
    print("|---:|---:|---:|---:|---:|", flush=True)
    for minutes in options.minutes:
        one = [sys.executable, __file__, "--one", str(minutes), "--windows", str(options.windows)]
        subprocess.run(one, check=True)
    return 0


def print_row(minutes: int, windows: int) -> None:
    import toxicity_loadtest.engine  # noqa: F401  the generator's memory
    from toxicity_api.loadtest_status import LoadTestStatus
    from toxicity_api.spec import LoadTestSpec
    from toxicity_loadtest.artifacts import REQUESTS, write_artifacts
    from toxicity_loadtest.figures import bucket_result, overall
    from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder
    from toxicity_loadtest.spill import Records, SpillFile
    from toxicity_store.artifacts import VolumeStore

    file, found, chance = SpillFile(), [], random.Random(1)
    for number in range(1, windows + 1):
        order = WindowOrder(
            number=number, name=f"{number}-{number}", rps=RPS, seconds=60 * minutes / windows, arrivals="poisson"
        )
        records = Records(file)
        for slot, due in enumerate(order.times):
            start = due + 1e-4 * chance.random()
            records.append(Record(slot, due, due, start, start + chance.expovariate(20), Outcome.OK, 200))
        records.spill()
        found.append(Window(order, records, began_at=f"2030-01-01T00:{number:02}:00.000Z"))
    begin = time.perf_counter()
    results = [bucket_result(window) for window in found]
    overall(found)
    status = LoadTestStatus(
        fingerprint="f", run_id="1", state="Complete", users=256, requested_rps=RPS, buckets=results
    )
    with TemporaryDirectory() as folder:
        write_artifacts(Path(folder, "loadtest-f"), found, status, LoadTestSpec(), VolumeStore())
        size = Path(folder, "loadtest-f", REQUESTS).stat().st_size / 1e6
    took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIBIBYTES_PER_MEGABYTE
    total = sum(result.requests for result in results)
    print(f"| {minutes} | {total} | {size:.0f} | {peak:.0f} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
