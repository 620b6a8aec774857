"""Offer load with Locust users in this process. Locust is used as a library, without its web interface.

Importing this module lets Locust patch the standard library for gevent, so only the running load test imports it.

The users live as long as the run. In each window a user takes one slot of the schedule after the other, waits for the
slot's time and sends the request. It leaves when no slot is left. The window ends with its last answer, so every
request belongs to exactly one window. Each window opens new connections, so that new replicas get requests.
"""

from __future__ import annotations

import time

import gevent
from gevent.event import Event
from locust import FastHttpUser, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.runners import Runner

from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.cpu import usable_cores
from toxicity_loadtest.errors import GeneratorError, OutageError, describe_crash
from toxicity_loadtest.records import Outcome, Window, WindowOrder
from toxicity_loadtest.service import CLASSIFY_PATH, OutageWatch, Target, has_valid_score, request_body
from toxicity_loadtest.window import OpenWindow

KEEP_ALIVE_SECONDS = 2.0
"""Longest pause between two requests with which a user keeps its connection. Many HTTP servers close idle connections
after 5 seconds, and a request at that moment would fail although the service works."""

TICK_SECONDS = 0.05


class WindowFeed:
    """Announces the next window to the waiting users of this process."""

    def __init__(self, target: Target) -> None:
        self.target, self.headers = target, target.headers()
        self.outage = OutageWatch(target.max_outage_seconds)
        self.window: OpenWindow | None = None
        self._changed = Event()

    def open(self, window: OpenWindow) -> None:
        """Start a window: wake all waiting users."""
        self.window = window
        self._changed.set()
        self._changed = Event()

    def wait_for_next(self, seen: OpenWindow | None) -> OpenWindow:
        """Wait for a window other than `seen`."""
        while self.window is None or self.window is seen:
            self._changed.wait()
        return self.window


class PacedUser(FastHttpUser):  # type: ignore[misc]  # Locust ships no usable types
    """A Locust user that sends requests at the times of the schedule, window by window."""

    max_retries = max_redirects = 0

    def on_start(self) -> None:
        self.feed: WindowFeed = self.environment.feed
        self.window: OpenWindow | None = None

    def wait_time(self) -> float:
        return 0.0

    @task  # type: ignore[untyped-decorator]
    def run_windows(self) -> None:
        self.window = window = self.feed.wait_for_next(self.window)
        self.client.client.clientpool.close()
        headers = dict(self.feed.headers)
        if window.pause > KEEP_ALIVE_SECONDS:
            headers["Connection"] = "close"
        free = 0.0
        while (taken := window.take()) is not None:
            slot, text = taken
            headers["X-Request-Id"] = f"{self.feed.target.run}-{window.order.number}-{slot}"
            body = request_body(text)
            while (early := window.order.scheduled(slot) - window.elapsed()) > 0:
                gevent.sleep(early)
            free = self.send(window, slot, free, body, headers)
        window.leave()

    def send(self, window: OpenWindow, slot: int, free: float, body: bytes, headers: dict[str, str]) -> float:
        """Send one request without retries, check the answer and keep the record. Return the end time."""
        start = window.elapsed()
        try:
            with gevent.Timeout(self.feed.target.request_seconds):
                outcome, status_code = self._post(body, headers)
        except gevent.Timeout:
            outcome, status_code = Outcome.TIMEOUT, 0
        end = window.elapsed()
        window.add(slot, free, start, end, outcome, status_code)
        self.feed.outage.note(window.begin + start, window.begin + end, outcome, status_code)
        if outcome in (Outcome.TIMEOUT, Outcome.CONNECTION):
            self.client.client.clientpool.close()  # a late answer must not be taken for the next request's
        return end

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[Outcome, int]:
        with self.client.post(
            CLASSIFY_PATH, data=body, headers=headers, name=CLASSIFY_PATH, catch_response=True
        ) as response:
            outcome = _outcome(response)
            if outcome is Outcome.OK:
                response.success()
            else:
                response.failure(str(outcome))
            return outcome, int(response.status_code or 0)


class UserPool:
    """The users of this process and the windows they work on. A local runner or a worker runner starts them."""

    def __init__(self, target: Target, corpus: Corpus) -> None:
        self._corpus = corpus
        self._errors: list[BaseException] = []
        self.feed = WindowFeed(target)
        self.environment = Environment(
            user_classes=[PacedUser], host=target.url.rstrip("/"), catch_exceptions=False
        )
        self.environment.feed = self.feed
        self.environment.events.user_error.add_listener(self._keep_error)

    def run_window(self, order: WindowOrder) -> Window:
        """Run one window until every request sent in it has ended.

        Raises GeneratorError if a user crashed, since the load was not the requested one. Raises OutageError with the
        records so far if the service was unavailable for too long.
        """
        texts = self._corpus.window_texts(order)
        window = OpenWindow(order, texts, self.environment.runner.user_count)
        cpu_begin = time.process_time()
        self.feed.open(window)
        outage_seconds = 0.0
        while not window.is_over and not self._errors:
            gevent.sleep(TICK_SECONDS)
            if not outage_seconds and self.feed.outage.is_too_long(time.perf_counter()):
                outage_seconds = self.feed.outage.seconds(time.perf_counter())
                window.close()
        cores = (time.process_time() - cpu_begin) / max(window.elapsed(), TICK_SECONDS)
        result = window.result(round(cores / usable_cores(), 4))
        self._check(window)
        if outage_seconds:
            raise OutageError(self._outage_message(outage_seconds), result)
        return result

    def _check(self, window: OpenWindow) -> None:
        if self._errors:
            raise GeneratorError(f"a user crashed: {describe_crash(self._errors[0])}") from self._errors[0]
        if window.missing:
            raise GeneratorError(f"{window.missing} requests of window {window.order.number} have no record")

    def _outage_message(self, seconds: float) -> str:
        bound = self.feed.target.max_outage_seconds
        return (
            f"{self.feed.target.url} was unavailable for {seconds:.1f} s during the run,"
            f" longer than loadTest.maxOutageSeconds ({bound:g})"
        )

    def _keep_error(self, exception: BaseException, **_event: object) -> None:
        self._errors.append(exception)


class LocalGenerator:
    """Offers load with all users in this process. Close it when done."""

    def __init__(self, target: Target, corpus: Corpus, users: int) -> None:
        self._pool = UserPool(target, corpus)
        self._runner: Runner = self._pool.environment.create_local_runner()
        self._runner.start(users, spawn_rate=users)
        self._runner.spawning_greenlet.join()

    def offer(self, order: WindowOrder) -> Window:
        """Run one window, as UserPool.run_window."""
        return self._pool.run_window(order)

    def close(self) -> None:
        """Stop all users immediately."""
        self._runner.quit()


def _outcome(response: ResponseContextManager) -> Outcome:
    error = response.request_meta["exception"]
    error = getattr(error, "original", None) or error  # the client wraps a timeout in RetriesExceeded
    if isinstance(error, TimeoutError | gevent.Timeout):
        return Outcome.TIMEOUT
    if response.status_code not in (0, 200):
        return Outcome.HTTP_ERROR
    if error is not None or not response.status_code:
        return Outcome.CONNECTION
    return Outcome.OK if has_valid_score(response.content) else Outcome.INVALID_ANSWER
