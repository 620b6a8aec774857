"""The operator's own cost with many resources, on a real API server: `make bench-operator`.

The operator runs as a process of its own with the rights that the chart gives it. The benchmark plays the
controllers, so that stages take no time and what is left is the operator, its client and the API server, on the
same machine. Requests are counted from the API server's audit log, which records the operator's user alone.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from support.builders import a_model
from support.operator.actors import GROUPS, Api, RequestFailed, finish_job, is_finished, is_rolled_out, roll_out
from support.operator.api_server import ApiServer, die_with_parent, running_api_server
from support.ports import free_ports
from toxicity_api.base import KIND
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_operator import names
from toxicity_operator.settings import Images

NAMESPACES = 10
ACTORS = 4
LATENCY_SAMPLES = 30
RESTORED = 10
SETTLE_SECONDS = 1800
QUIET_SECONDS = 5.0
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
WATCH_SECONDS = 3600
IMAGES = {f"IMAGE_{part.upper()}": f"{part}-image:1" for part in Images.__dataclass_fields__}


@dataclass(frozen=True)
class Figures:
    """One row of the table. Latencies and times in seconds, memory in MiB, CPU time in seconds per resource."""

    resources: int
    settled_per_second: float
    latency_p50: float
    latency_p95: float
    memory_mib: float
    peak_mib: float
    idle_cpu_percent: float
    idle_writes: float
    idle_requests: float
    recovery_seconds: float
    requests_per_resource: float
    operator_cpu: float
    server_cpu: float
    benchmark_cpu: float


class Operator:
    """`python -m toxicity_operator` as a process; its output goes to a file."""

    def __init__(self, server: ApiServer) -> None:
        self._kubeconfig = server.operator_kubeconfig()
        self._log = server.state / "operator.log"
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        ports = dict(zip(("LIVENESS_PORT", "METRICS_PORT"), map(str, free_ports(2)), strict=True))
        environment = {**os.environ, **IMAGES, **ports, "KUBECONFIG": str(self._kubeconfig)}
        with self._log.open("ab") as log:
            self._process = psutil.Popen(
                [sys.executable, "-m", "toxicity_operator"],
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    @property
    def process(self) -> psutil.Popen:
        assert self._process is not None and self._process.is_running(), self._log.read_text()[-2000:]
        return self._process


@dataclass
class Controllers:
    """Finishes every Job and rolls out every Deployment as soon as it is seen, in a few threads.

    `ready` has the resources that are Ready; they are watched too, since lists of them would cost the API server much.
    """

    server: ApiServer
    work: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)
    failures: list[RequestFailed] = field(default_factory=list)
    ready: set[tuple[str, str]] = field(default_factory=set)

    @contextmanager
    def playing(self) -> Iterator[None]:
        api_client = self.server.connect()
        for kind in ("Job", "Deployment", KIND):
            threading.Thread(target=self._watch, args=(kind,), daemon=True).start()
        actors = [threading.Thread(target=self._act, args=(api_client,)) for _ in range(ACTORS)]
        for actor in actors:
            actor.start()
        try:
            yield
        finally:
            for _ in actors:
                self.work.put(None)
            for actor in actors:
                actor.join()

    def _watch(self, kind: str) -> None:
        """Every object of the kind, with each of its changes, until the server stops."""
        api_client = self.server.connect()
        root, plural = GROUPS[kind]
        url = f"{self.server.url}{root}/{plural}?watch=true&timeoutSeconds={WATCH_SECONDS}"
        answer = api_client.rest_client.pool_manager.request("GET", url, preload_content=False, timeout=None)
        for line in lines_until_broken(answer):
            event = json.loads(line)
            if kind == KIND:
                self._note(event["object"])
            # a Job is finished once, when it appears: its changes are what was done to it here
            elif event["type"] == "ADDED" or (event["type"] == "MODIFIED" and kind == "Deployment"):
                self.work.put({**event["object"], "kind": kind})

    def _note(self, model: dict[str, Any]) -> None:
        key = (model["metadata"]["namespace"], model["metadata"]["name"])
        is_ready = model.get("status", {}).get("stage") == "Ready"
        (self.ready.add if is_ready else self.ready.discard)(key)

    def _act(self, api_client: client.ApiClient) -> None:
        while (item := self.work.get()) is not None:
            api = Api(api_client, item["metadata"]["namespace"])
            try:
                if item["kind"] == "Job" and not is_finished(item):
                    finish_job(api, item)
                if item["kind"] == "Deployment" and not is_rolled_out(item):
                    roll_out(api, item)
            except RequestFailed as error:
                self.failures.append(error)


def lines_until_broken(answer: BaseHTTPResponse) -> Iterator[bytes]:
    """The lines of a watch, which ends with its server."""
    with suppress(HTTPError):
        yield from answer


class Bench:
    """One number of resources on one API server."""

    def __init__(self, server: ApiServer, count: int, quiet_seconds: float) -> None:
        self._server, self._count, self._quiet = server, count, quiet_seconds
        self._api_client = server.connect()
        self._namespaces = [f"models-{index}" for index in range(NAMESPACES)]
        self._operator = Operator(server)
        self._controllers = Controllers(server)
        # before the operator starts, the API server and its etcd are all that runs
        self._servers = psutil.Process().children()

    def run(self) -> Figures:
        core = client.CoreV1Api(self._api_client)
        for namespace in self._namespaces:
            core.create_namespace({"metadata": {"name": namespace}})
            core.create_namespaced_service_account(namespace, {"metadata": {"name": "default"}})
        self._operator.start()
        try:
            with self._controllers.playing():
                return self._measure()
        finally:
            self._operator.stop()

    def _measure(self) -> Figures:
        self._wait_for_operator()
        counted, before, began = len(self._audit()), self._cpu_seconds(), time.monotonic()
        with ThreadPoolExecutor(ACTORS) as pool:
            list(pool.map(self._create, range(self._count)))
        self._wait_until_ready(self._count + 1, SETTLE_SECONDS)
        settled = self._count / (time.monotonic() - began)
        spent = [(now - then) / self._count for now, then in zip(self._cpu_seconds(), before, strict=True)]
        self._wait_for_quiet()
        requests = (len(self._audit()) - counted) / self._count
        writes, asked, cpu = self._idle()
        latencies = self._latencies()
        memory, peak = self._memory_mib()
        return Figures(
            resources=self._count,
            settled_per_second=settled,
            latency_p50=statistics.median(latencies),
            latency_p95=statistics.quantiles(latencies, n=20)[-1],
            memory_mib=memory,
            peak_mib=peak,
            idle_cpu_percent=cpu,
            idle_writes=writes,
            idle_requests=asked,
            recovery_seconds=self._recovery(),
            requests_per_resource=requests,
            operator_cpu=spent[0],
            server_cpu=spent[1],
            benchmark_cpu=spent[2],
        )

    def _cpu_seconds(self) -> tuple[float, float, float]:
        """CPU time so far of the operator, of the API server with its etcd, and of the benchmark itself."""
        servers = sum(map(_cpu_seconds_of, self._servers))
        return _cpu_seconds_of(self._operator.process), servers, _cpu_seconds_of(psutil.Process())

    def _memory_mib(self) -> tuple[float, float]:
        """What is resident of the operator now, and the most that was."""
        status = Path(f"/proc/{self._operator.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        now, most = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most

    def _wait_for_operator(self) -> None:
        """One resource through all stages, so that nothing that happens once is counted."""
        self._create(self._count)
        self._wait_until_ready(1, 120)
        self._wait_for_quiet()

    def _api(self, index: int) -> Api:
        return Api(self._api_client, self._namespaces[index % NAMESPACES])

    def _create(self, index: int) -> float:
        """Applies a resource; when that was."""
        raw = a_model().with_spec("serving.autoscaling", {"minReplicas": 1, "maxReplicas": 2}).raw()
        raw["metadata"] = {"name": f"model-{index}"}
        self._api(index).create(KIND, raw)
        return time.monotonic()

    def _wait_until_ready(self, count: int, seconds: float) -> None:
        def all_ready() -> bool:
            if self._controllers.failures:
                raise self._controllers.failures[0]
            return len(self._controllers.ready) == count

        wait_until(f"{count} resources to be Ready", all_ready, seconds, 0.1)

    def _audit(self) -> list[str]:
        """Verbs of every request of the operator so far."""
        lines = self._server.audit_log.read_text().splitlines() if self._server.audit_log.exists() else []
        return [json.loads(line)["verb"] for line in lines]

    def _wait_for_quiet(self) -> None:
        """Until the operator has written nothing for a while."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            writes = sum(verb in WRITES for verb in self._audit())
            if writes != last:
                last, since = writes, time.monotonic()
            time.sleep(0.5)

    def _idle(self) -> tuple[float, float, float]:
        """Writes and requests per minute, and CPU in percent of a core, while nothing changes."""
        before, (cpu, *_), began = self._audit(), self._cpu_seconds(), time.monotonic()
        time.sleep(self._quiet)
        minutes = (time.monotonic() - began) / 60
        new = self._audit()[len(before) :]
        spent = self._cpu_seconds()[0] - cpu
        return sum(verb in WRITES for verb in new) / minutes, len(new) / minutes, spent / minutes / 60 * 100

    def _latencies(self) -> list[float]:
        """From the answer to the person's apply to the Job's being there, one resource at a time."""
        found = []
        for index in range(self._count + 1, self._count + 1 + LATENCY_SAMPLES):
            api, began = self._api(index), self._create(index)
            wait_until("the Job", partial(self._has_job, api, index), 120, 0.005)
            found.append(time.monotonic() - began)
            wait_until("the resource to be Ready", partial(self._is_ready, api, index), 120, 0.2)
        return found

    def _has_job(self, api: Api, index: int) -> bool:
        selector = f"{names.MODEL_LABEL}=model-{index}"
        return bool(api.request("GET", api.path("Job"), labelSelector=selector)["items"])

    def _is_ready(self, api: Api, index: int) -> bool:
        found = api.get(KIND, f"model-{index}")
        return found is not None and found.get("status", {}).get("stage") == "Ready"

    def _recovery(self) -> float:
        """From the start of a new operator process until what was deleted in its absence is there again."""
        self._operator.stop()
        lost = [(index * self._count) // RESTORED for index in range(RESTORED)]
        for index in lost:
            self._api(index).delete("Service", names.serving_name(f"model-{index}"))
        began = time.monotonic()
        self._operator.start()

        def restored() -> bool:
            services = (self._api(index).get("Service", names.serving_name(f"model-{index}")) for index in lost)
            return all(services)

        wait_until("the deleted Services to be there again", restored, 600, 0.1)
        return time.monotonic() - began


def _cpu_seconds_of(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


TITLES = {
    "resources": ("resources", "{:.0f}"),
    "settled_per_second": ("settled per second", "{:.1f}"),
    "requests_per_resource": ("requests each", "{:.0f}"),
    "operator_cpu": ("CPU s each: operator", "{:.3f}"),
    "server_cpu": ("API server and etcd", "{:.3f}"),
    "benchmark_cpu": ("benchmark", "{:.3f}"),
    "latency_p50": ("apply to Job p50, s", "{:.2f}"),
    "latency_p95": ("p95, s", "{:.2f}"),
    "memory_mib": ("resident, MiB", "{:.0f}"),
    "peak_mib": ("at most", "{:.0f}"),
    "idle_writes": ("idle: writes/min", "{:.0f}"),
    "idle_requests": ("requests/min", "{:.0f}"),
    "idle_cpu_percent": ("CPU, % of a core", "{:.1f}"),
    "recovery_seconds": ("recovery, s", "{:.1f}"),
}


def table(rows: Sequence[Figures]) -> str:
    """The figures as a Markdown table."""
    titles = [title for title, _ in TITLES.values()]
    lines = [titles, ["--:"] * len(titles)]
    lines += [[style.format(getattr(row, key)) for key, (_, style) in TITLES.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--idle-seconds", type=float, default=65.0, help="how long the operator is watched idle")
    options = parser.parse_args()
    rows = []
    for count in options.resources:
        with tempfile.TemporaryDirectory() as folder, running_api_server(Path(folder)) as server:
            rows.append(Bench(server, count, options.idle_seconds).run())
            print(table(rows[-1:]), file=sys.stderr, flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
