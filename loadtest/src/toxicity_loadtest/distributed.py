"""The load from several processes: Locust's master and workers, with raw records instead of Locust's statistics.

Locust spreads the users, and its heartbeats tell who is alive. A window is one message to every worker with the
worker's part of the schedule; the worker answers with its records in pieces and a last word. Nothing is concluded of
a window before every worker has said that word. A worker that goes away before ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
from toxicity_loadtest.user_pool import UserPool

WINDOW, RECORDS, LAST_WORD, END = "window", "window_records", "window_done", "run_end"
RECORDS_PER_MESSAGE = 10_000
TICK_SECONDS = 0.1
HEARTBEATS_MISSED = 8
"""Of one a second, before a worker counts as lost. Locust's own 3 are few for pods that share a busy node."""

SPAWN_SECONDS = 60.0
FAREWELL_MILLISECONDS = 1000
REPORT_SECONDS = 30.0
"""A worker that lives may take so long for its report after its last request has ended or timed out."""

ERRORS: dict[str, type[LoadTestError]] = {kind.reason: kind for kind in (GeneratorError, OutageError)}


class _Part:
    """What one worker has reported of the window."""

    def __init__(self, order: WindowOrder) -> None:
        self.order = order
        self.records: list[Record] = []
        self.last_word: dict[str, Any] | None = None

    def window(self) -> Window:
        word = self.last_word or {}
        return Window(
            self.order,
            self.records,
            word.get("omitted", []),
            word.get("cpuShare", 0.0),
            word.get("beganAt", ""),
        )


def _write_record(record: Record) -> list[Any]:
    return [*record[:5], str(record.outcome), record.status_code]


def _read_record(row: list[Any]) -> Record:
    slot, scheduled_start, intended_start, start, end, outcome, status_code = row
    return Record(slot, scheduled_start, intended_start, start, end, Outcome(outcome), status_code)


class MasterGenerator:
    """Leads `workers` workers. Close it when done, also after a failure: it sends the workers home."""

    def __init__(self, target: Target, corpus: Corpus, port: int) -> None:
        self._request_seconds = target.request_seconds
        runners.HEARTBEAT_LIVENESS = HEARTBEATS_MISSED  # Locust reads it from its module at every heartbeat
        environment = UserPool(target, corpus).environment
        self._runner: MasterRunner = environment.create_master_runner("*", port)
        self._runner.register_message(RECORDS, self._on_records)
        self._runner.register_message(LAST_WORD, self._on_last_word)
        self._parts: dict[str, _Part] = {}

    def gather(self, workers: int, users: int, seconds: float) -> None:
        """Waits for the workers and gives each its users. Raises WorkersMissingError after `seconds`."""
        self._wait(lambda: len(self._alive()) >= workers, seconds)
        if len(self._alive()) < workers:
            raise WorkersMissingError(
                f"{len(self._alive())} of {workers} workers reported within {seconds:g} s; see the log of their pods"
            )
        self._runner.start(users, spawn_rate=users)
        self._wait(lambda: self._runner.user_count == users, SPAWN_SECONDS)
        if self._runner.user_count != users:
            raise GeneratorError(f"{self._runner.user_count} of {users} users were started")
        self._team = sorted(self._alive())

    def offer(self, order: WindowOrder) -> Window:
        """Has every worker offer its part, and joins what they report.

        Raises WorkerLostError with the others' records when one goes away, and what a worker failed of.
        """
        parts = len(self._team)
        orders = [order.model_copy(update={"part": part, "parts": parts}) for part in range(parts)]
        self._parts = {worker: _Part(each) for worker, each in zip(self._team, orders, strict=True)}
        for worker, part in self._parts.items():
            self._runner.send_message(WINDOW, part.order.to_wire(), worker)
        self._wait(lambda: not self._outstanding() or bool(self._lost()), self._patience(order))
        window = join(order, [part.window() for part in self._parts.values()])
        for part in self._parts.values():
            if part.last_word and part.last_word.get("reason"):
                raise ERRORS[part.last_word["reason"]](part.last_word["message"], window)
        if self._outstanding():
            raise WorkerLostError(self._words(order), window)
        return window

    def close(self) -> None:
        """Sends the workers home and ends."""
        self._runner.send_message(END)
        self._runner.quit()

    def _alive(self) -> set[str]:
        clients = self._runner.clients
        return {worker for worker in clients if clients[worker].state != STATE_MISSING}

    def _outstanding(self) -> list[str]:
        return [worker for worker, part in self._parts.items() if part.last_word is None]

    def _lost(self) -> list[str]:
        alive = self._alive()
        return [worker for worker in self._outstanding() if worker not in alive]

    def _patience(self, order: WindowOrder) -> float:
        return order.seconds + self._request_seconds + REPORT_SECONDS

    def _words(self, order: WindowOrder) -> str:
        gone = self._lost()
        how = "went away" if gone else "did not report"
        names = ", ".join(gone or self._outstanding())
        return (
            f"{len(gone or self._outstanding())} of {len(self._team)} workers {how} in window {order.name}: {names};"
            " the figures end before it"
        )

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_done() and time.monotonic() < deadline:
            gevent.sleep(TICK_SECONDS)

    def _on_records(self, msg: Any, **_event: object) -> None:
        part = self._part_of(msg)
        if part is not None:
            part.records.extend(_read_record(row) for row in msg.data["records"])

    def _on_last_word(self, msg: Any, **_event: object) -> None:
        part = self._part_of(msg)
        if part is None:
            return
        if not msg.data.get("reason") and len(part.records) != msg.data["count"]:
            return  # a piece was lost on the way, so this worker's report never becomes whole
        part.last_word = msg.data

    def _part_of(self, msg: Any) -> _Part | None:
        part = self._parts.get(msg.node_id)
        return part if part is not None and part.order.number == msg.data["number"] else None


class Worker:
    """Offers its part of each window that the master asks for."""

    def __init__(self, target: Target, corpus: Corpus, host: str, port: int) -> None:
        """Connects to the master. Raises MasterLostError when it cannot be reached for minutes."""
        self._pool = UserPool(target, corpus)
        self._ended = Event()
        try:
            self._runner: WorkerRunner = self._pool.environment.create_worker_runner(host, port)
        except ConnectionError as error:
            raise MasterLostError(f"no master answers at {host}:{port}") from error
        self._runner.register_message(WINDOW, self._on_window, concurrent=True)
        self._runner.register_message(END, self._on_end)

    def run(self) -> None:
        """Returns when the master says that the run is over. Raises MasterLostError when it is gone before."""
        while not self._ended.wait(TICK_SECONDS):
            if len(self._runner.greenlet) == 0:
                raise MasterLostError("the master went away before the run was over")

    def close(self) -> None:
        """Tells the master that this worker goes, and waits a moment for the word to leave."""
        self._runner.greenlet.kill(block=True)
        self._pool.environment.events.quitting.fire(environment=self._pool.environment)
        self._runner.client.close(linger=FAREWELL_MILLISECONDS)

    def _on_window(self, msg: Any, **_event: object) -> None:
        order = WindowOrder.model_validate(msg.data)
        word: dict[str, Any] = {}
        try:
            window = self._pool.work(order)
        except (GeneratorError, OutageError) as error:
            window = error.window or Window(order)
            word = {"reason": error.reason, "message": str(error)}
        for begin in range(0, len(window.records), RECORDS_PER_MESSAGE):
            piece = window.records[begin : begin + RECORDS_PER_MESSAGE]
            rows = [_write_record(record) for record in piece]
            self._runner.send_message(RECORDS, {"number": order.number, "records": rows})
        word |= {"number": order.number, "count": len(window.records), "omitted": list(window.omitted)}
        word |= {"cpuShare": window.cpu_share, "beganAt": window.began_at}
        self._runner.send_message(LAST_WORD, word)

    def _on_end(self, **_event: object) -> None:
        self._ended.set()
