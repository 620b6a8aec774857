"""Offer load from several processes: Locust's master and workers, with raw records instead of Locust's statistics.

Locust distributes the users and detects lost workers by heartbeats. For each window the master sends every worker its
part of the schedule. The worker returns its records in batches and then a summary. The window is complete when every
worker has sent its summary. If a worker is lost before, the run ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import gevent
from gevent.event import Event
from locust import runners
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.errors import (
    GeneratorError,
    LoadTestError,
    MasterLostError,
    OutageError,
    WorkerLostError,
    WorkersMissingError,
)
from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder, join
from toxicity_loadtest.service import Target
from toxicity_loadtest.spill import Records, SpillFile
from toxicity_loadtest.user_pool import UserPool, spawn_rate

WINDOW, RECORDS, SUMMARY, END = "window", "window_records", "window_done", "run_end"
RECORDS_PER_MESSAGE = 10_000
TICK_SECONDS = 0.1
HEARTBEATS_MISSED = 8
"""Missed heartbeats, one per second, after which a worker is lost. Locust's 3 are too few on a busy node."""

SPAWN_SECONDS = 60.0
LINGER_MILLISECONDS = 1000
REPORT_SECONDS = 30.0
"""Maximum time for a worker's report after its last request has ended or timed out."""

ERRORS: dict[str, type[LoadTestError]] = {kind.reason: kind for kind in (GeneratorError, OutageError)}


class _WorkerPart:
    """The records of the window that one worker has reported."""

    def __init__(self, order: WindowOrder, records: Records) -> None:
        self.order, self.records = order, records
        self.summary: dict[str, Any] | None = None

    def window(self) -> Window:
        summary = self.summary or {}
        return Window(
            self.order,
            self.records,
            summary.get("omitted", []),
            summary.get("cpuShare", 0.0),
            summary.get("beganAt", ""),
            summary.get("openPeak", 0),
            [(at, share) for at, share in summary.get("cpu", [])],
        )


def _write_record(record: Record) -> list[Any]:
    return [*record[:5], str(record.outcome), record.status_code]


def _read_record(row: list[Any]) -> Record:
    slot, scheduled_start, intended_start, start, end, outcome, status_code = row
    return Record(slot, scheduled_start, intended_start, start, end, Outcome(outcome), status_code)


class MasterGenerator:
    """Offers load with the workers of a Locust master. Close it also after a failure, to stop the workers."""

    def __init__(self, target: Target, corpus: Corpus, port: int) -> None:
        self._request_seconds, self._file = target.request_seconds, SpillFile()
        runners.HEARTBEAT_LIVENESS = HEARTBEATS_MISSED  # Locust reads the module's variable at every heartbeat
        environment = UserPool(target, corpus).environment
        self._runner: MasterRunner = environment.create_master_runner("*", port)
        self._runner.register_message(RECORDS, self._on_records)
        self._runner.register_message(SUMMARY, self._on_summary)
        self._parts: dict[str, _WorkerPart] = {}

    def gather(self, workers: int, users: int, seconds: float) -> None:
        """Wait for the workers and start the users. Raises WorkersMissingError after `seconds`."""
        self._wait(lambda: len(self._alive()) >= workers, seconds)
        if len(self._alive()) < workers:
            raise WorkersMissingError(
                f"{len(self._alive())} of {workers} workers connected within {seconds:g} s: see the logs of their pods"
            )
        self._runner.start(users, spawn_rate=spawn_rate(users))
        self._wait(lambda: self._runner.user_count == users, SPAWN_SECONDS)
        if self._runner.user_count != users:
            raise GeneratorError(f"{self._runner.user_count} of {users} users started within {SPAWN_SECONDS:g} s")
        self._workers = sorted(self._alive())

    def offer(self, order: WindowOrder) -> Window:
        """Let every worker offer its part of the window and join their records.

        Raises WorkerLostError with the others' records if a worker is lost, and the error that a worker reports.
        """
        parts = len(self._workers)
        orders = [order.model_copy(update={"part": part, "parts": parts}) for part in range(parts)]
        self._parts = {
            worker: _WorkerPart(each, Records(self._file))
            for worker, each in zip(self._workers, orders, strict=True)
        }
        for worker, part in self._parts.items():
            self._runner.send_message(WINDOW, part.order.to_wire(), worker)
        self._wait(lambda: not self._outstanding() or bool(self._lost()), self._timeout(order))
        records = Records(self._file)
        records.take([part.records for part in self._parts.values()])
        window = join(order, [part.window() for part in self._parts.values()], records)
        for part in self._parts.values():
            if part.summary and part.summary.get("reason"):
                raise ERRORS[part.summary["reason"]](part.summary["message"], window)
        if self._outstanding():
            raise WorkerLostError(self._lost_message(order), window)
        return window

    def close(self) -> None:
        """Stop the workers and the master."""
        self._runner.send_message(END)
        self._runner.quit()

    def _alive(self) -> set[str]:
        clients = self._runner.clients
        return {worker for worker in clients if clients[worker].state != STATE_MISSING}

    def _outstanding(self) -> list[str]:
        return [worker for worker, part in self._parts.items() if part.summary is None]

    def _lost(self) -> list[str]:
        alive = self._alive()
        return [worker for worker in self._outstanding() if worker not in alive]

    def _timeout(self, order: WindowOrder) -> float:
        return order.seconds + self._request_seconds + REPORT_SECONDS

    def _lost_message(self, order: WindowOrder) -> str:
        gone = self._lost()
        how = "were lost" if gone else "did not report"
        names = ", ".join(gone or self._outstanding())
        return (
            f"{len(gone or self._outstanding())} of {len(self._workers)} workers {how} in window {order.name}: {names}."
            " The figures cover the windows before it"
        )

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_done() and time.monotonic() < deadline:
            gevent.sleep(TICK_SECONDS)

    def _on_records(self, msg: Any, **_event: object) -> None:
        part = self._part_of(msg)
        if part is not None:
            part.records.extend(_read_record(row) for row in msg.data["records"])

    def _on_summary(self, msg: Any, **_event: object) -> None:
        part = self._part_of(msg)
        if part is None:
            return
        if not msg.data.get("reason") and len(part.records) != msg.data["count"]:
            return  # a batch was lost, so this worker's report stays incomplete
        part.summary = msg.data

    def _part_of(self, msg: Any) -> _WorkerPart | None:
        part = self._parts.get(msg.node_id)
        return part if part is not None and part.order.number == msg.data["number"] else None


class Worker:
    """Offers its part of each window that the master requests."""

    def __init__(self, target: Target, corpus: Corpus, host: str, port: int) -> None:
        """Connect to the master. Raises MasterLostError if Locust gives up after some minutes."""
        self._pool = UserPool(target, corpus)
        self._ended = Event()
        try:
            self._runner: WorkerRunner = self._pool.environment.create_worker_runner(host, port)
        except ConnectionError as error:
            raise MasterLostError(f"cannot connect to the master at {host}:{port}") from error
        self._runner.register_message(WINDOW, self._on_window, concurrent=True)
        self._runner.register_message(END, self._on_end)

    def run(self) -> None:
        """Run until the master ends the run. Raises MasterLostError if the connection is lost before."""
        while not self._ended.wait(TICK_SECONDS):
            if len(self._runner.greenlet) == 0:
                raise MasterLostError("the connection to the master was lost before the end of the run")

    def close(self) -> None:
        """Notify the master that this worker quits, and wait until the message is sent."""
        self._runner.greenlet.kill(block=True)
        self._pool.environment.events.quitting.fire(environment=self._pool.environment)
        self._runner.client.close(linger=LINGER_MILLISECONDS)

    def _on_window(self, msg: Any, **_event: object) -> None:
        order = WindowOrder.model_validate(msg.data)
        summary: dict[str, Any] = {}
        try:
            window = self._pool.run_window(order)
        except (GeneratorError, OutageError) as error:
            window = error.window or Window(order)
            summary = {"reason": error.reason, "message": str(error)}
        records = iter(window.records)
        while batch := list(islice(records, RECORDS_PER_MESSAGE)):
            rows = [_write_record(record) for record in batch]
            self._runner.send_message(RECORDS, {"number": order.number, "records": rows})
        summary |= {"number": order.number, "count": len(window.records), "omitted": list(window.omitted)}
        summary |= {"cpuShare": window.cpu_share, "beganAt": window.began_at}
        summary |= {"openPeak": window.open_peak, "cpu": list(window.cpu)}
        self._runner.send_message(SUMMARY, summary)

    def _on_end(self, **_event: object) -> None:
        self._ended.set()
