"""The load generator beside itself, vegeta and, if it is installed, wrk: `make bench-loadtest`. Prints two tables.

The ceiling: requests per second of a closed loop against a constant server, and per core of the generator's own CPU,
with Locust's FastHttpUser (what the load test uses), Locust's HttpUser, wrk, a generator in C, and vegeta, one in Go.
The profile: an open loop at a given rate against a service of a known delay, by the load test and by vegeta,
percentiles side by side. All on the loopback, in one run on one machine: only the ratios mean something elsewhere.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.calibration import UNREACHABLE_RPS, constant_server
from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.cpu import usable_cores
from toxicity_loadtest.figures import bucket_result
from toxicity_loadtest.records import CALIBRATION, WindowOrder
from toxicity_loadtest.routes import CLASSIFY
from toxicity_loadtest.service import Target
from toxicity_loadtest.user_pool import LocalGenerator

TEXT = "Какой чудесный день сегодня, не правда ли"
WRK_SCRIPT = """wrk.method, wrk.body = "POST", '{body}'
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  io.write(string.format("figures %d %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status +
    summary.errors.timeout, latency:percentile(95)))
end
"""
MICROSECONDS, NANOSECONDS = 1e6, 1e9
OPEN_REQUESTS = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds the paced service takes")
    parser.add_argument("--rps", type=float, default=160, help="requests per second of the open loop")
    parser.add_argument("--vegeta", type=Path, required=True, help="the program, built by toxicity_cluster")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing, so vegeta is the only comparison; to add it: apt-get install wrk", file=sys.stderr)
    print_ceilings(options.vegeta, options.users, options.seconds)
    print_profile(options.vegeta, options.rps, options.seconds, options.delay)
    return 0


def print_ceilings(program: Path, users: int, seconds: int) -> None:
    """Requests per second at most, and per core of the generator's CPU."""
    print(f"### Ceiling, {users} connections, {seconds} s against a constant server\n")
    print("| generator | requests/s | CPU, cores | requests/s per core |\n|---|---:|---:|---:|")
    ways: dict[str, Callable[[str], tuple[float, float]]] = {
        "Locust FastHttpUser (the load test)": lambda url: load_test_ceiling(url, users, seconds),
        "Locust HttpUser": lambda url: http_user_ceiling(url, users, seconds),
        "vegeta": lambda url: vegeta_ceiling(program, url, users, seconds),
    }
    if shutil.which("wrk"):
        ways["wrk, 1 thread"] = lambda url: wrk_ceiling(url, users, seconds)
    for name, measure in ways.items():
        with constant_server() as url:
            rps, cores = measure(url)
        print(f"| {name} | {rps:.0f} | {cores:.2f} | {rps / cores:.0f} |", flush=True)


def load_test_ceiling(url: str, users: int, seconds: int) -> tuple[float, float]:
    """The load test's own generator, asked for more than it can."""
    order = WindowOrder(number=1, name=CALIBRATION, rps=UNREACHABLE_RPS, seconds=seconds)
    generator = a_generator(url, users)
    try:
        window = generator.offer(order)
    finally:
        generator.close()
    result = bucket_result(window)
    assert result.failures == 0, result
    return result.actual_rps, window.cpu_share * usable_cores()


def http_user_ceiling(url: str, users: int, seconds: int) -> tuple[float, float]:
    """Locust's client on `requests`, in a closed loop, judged as the load test judges."""
    import gevent
    from locust import HttpUser, constant, task
    from locust.env import Environment

    body, counts = CLASSIFY.request_body([TEXT]), {"good": 0, "bad": 0}

    class PlainUser(HttpUser):  # type: ignore[misc]
        wait_time = constant(0)
        host = url

        @task  # type: ignore[untyped-decorator]
        def classify(self) -> None:
            answer = self.client.post(CLASSIFY.path, data=body, headers={"Content-Type": "application/json"})
            counts[
                "good" if answer.status_code == 200 and CLASSIFY.has_valid_scores(answer.content, 1) else "bad"
            ] += 1

    runner = Environment(user_classes=[PlainUser]).create_local_runner()
    runner.start(users, spawn_rate=users)
    runner.spawning_greenlet.join()
    before, cpu, begin = counts["good"], time.process_time(), time.perf_counter()
    gevent.sleep(seconds)
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    good = counts["good"] - before
    runner.quit()
    assert counts["bad"] == 0, counts
    return good / took, used / took


def wrk_ceiling(url: str, connections: int, seconds: int) -> tuple[float, float]:
    """wrk with one thread."""
    cpu = _children_cpu()
    requests, took, failures, _ = wrk(url, connections, seconds)
    assert failures == 0
    return requests / took, (_children_cpu() - cpu) / took


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def vegeta_ceiling(program: Path, url: str, workers: int, seconds: int) -> tuple[float, float]:
    """Vegeta without a pace, with as many workers as the others have connections."""
    cpu = _children_cpu()
    found = vegeta(program, url, seconds, "-rate=0", f"-workers={workers}", f"-max-workers={workers}")
    assert found["success"] == 1, found["errors"]
    return found["throughput"], (_children_cpu() - cpu) / seconds


def print_profile(program: Path, rps: float, seconds: int, delay: float) -> None:
    """Percentiles of a service of known delay by two open loops at the same rate and even intervals."""
    print(f"\n### Open loop, {rps:g} requests/s for {seconds} s, service of {delay * 1000:g} ms\n")
    print("| generator | requests/s | p50, ms | p95, ms | p99, ms | CPU, cores |\n|---|---:|---:|---:|---:|---:|")
    with constant_server(delay) as url:
        generator = a_generator(url, OPEN_REQUESTS)
        try:
            window = generator.offer(WindowOrder(number=1, name=CALIBRATION, rps=rps, seconds=seconds))
        finally:
            generator.close()
        cpu = _children_cpu()
        other = vegeta(program, url, seconds, f"-rate={rps:g}/s")
        cores = (_children_cpu() - cpu) / seconds
    own = bucket_result(window)
    assert (own.failures, own.delayed, other["success"]) == (0, 0, 1)
    times = [own.p50_seconds, own.p95_seconds, own.p99_seconds]
    print_row("load test", own.actual_rps, [time or 0.0 for time in times], window.cpu_share * usable_cores())
    theirs = [other["latencies"][name] / NANOSECONDS for name in ("50th", "95th", "99th")]
    print_row("vegeta", other["throughput"], theirs, cores)


def print_row(name: str, rps: float, seconds: list[float], cores: float) -> None:
    print(f"| {name} | {rps:.1f} | {' | '.join(f'{1000 * each:.2f}' for each in seconds)} | {cores:.2f} |")


def vegeta(program: Path, url: str, seconds: int, *options: str) -> dict[str, Any]:
    """Return the report of an attack. Latencies are in nanoseconds."""
    with TemporaryDirectory() as folder:
        body, targets = Path(folder, "body.json"), Path(folder, "targets.txt")
        body.write_bytes(CLASSIFY.request_body([TEXT]))
        targets.write_text(f"POST {url}{CLASSIFY.path}\nContent-Type: application/json\n@{body}\n", "utf-8")
        attack = [str(program), "attack", f"-duration={seconds}s", f"-targets={targets}", *options]
        results = subprocess.run(attack, check=True, capture_output=True).stdout
    report = subprocess.run([str(program), "report", "-type=json"], check=True, capture_output=True, input=results)
    found: dict[str, Any] = json.loads(report.stdout)
    return found


def a_generator(url: str, users: int) -> LocalGenerator:
    target = Target(url, request_seconds=5.0, max_outage_seconds=5.0, run="bench")
    return LocalGenerator(target, Corpus([TEXT], LoadTestSpec(), 1), users)


def wrk(url: str, connections: int, seconds: int) -> tuple[int, float, int, float]:
    """Requests, seconds, failures and p95 in seconds of a run of wrk."""
    with TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(WRK_SCRIPT.replace("{body}", json.dumps({"texts": [TEXT]}, ensure_ascii=False)), "utf-8")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"{url}{CLASSIFY.path}"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = (line for line in out.splitlines() if line.startswith("figures "))
    requests, duration, failures, p95 = (int(word) for word in line.split()[1:])
    return requests, duration / MICROSECONDS, failures, p95 / MICROSECONDS


if __name__ == "__main__":
    sys.exit(main())
