"""The load itself: Locust as a library, headless, in this process. Importing this module patches the standard
library for gevent (Locust does), so only the running load test imports it.

The users live as long as the run. In each window they take slots of its schedule, one after the other, wait for the
slot's time, send, and leave when none is left. The window is closed when the last answer is there, so every request
is in exactly one window. Connections are new in each window: replicas that a scale-up added get their share.
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
"""A user with longer pauses opens a connection per request: HTTP servers drop idle ones, many after 5 seconds,
and a request that meets the drop would fail by no fault of the service."""

TICK_SECONDS = 0.05


class WindowFeed:
    """Where the users of this process wait for the next window."""

    def __init__(self, target: Target) -> None:
        self.target, self.headers = target, target.headers()
        self.outage = OutageWatch(target.max_outage_seconds)
        self.window: OpenWindow | None = None
        self._news = Event()

    def open(self, window: OpenWindow) -> None:
        """Lets the users in."""
        self.window = window
        self._news.set()
        self._news = Event()

    def after(self, seen: OpenWindow | None) -> OpenWindow:
        """Waits for a window other than the one the user has seen."""
        while self.window is None or self.window is seen:
            self._news.wait()
        return self.window


class PacedUser(FastHttpUser):  # type: ignore[misc]  # Locust ships no usable types
    """Takes part in one window after the other."""

    max_retries = max_redirects = 0

    def on_start(self) -> None:
        self.desk: WindowFeed = self.environment.desk
        self.window: OpenWindow | None = None

    def wait_time(self) -> float:
        return 0.0

    @task  # type: ignore[untyped-decorator]
    def take_part(self) -> None:
        self.window = window = self.desk.after(self.window)
        self.client.client.clientpool.close()
        headers = dict(self.desk.headers)
        if window.pause > KEEP_ALIVE_SECONDS:
            headers["Connection"] = "close"
        free = 0.0
        while (taken := window.take()) is not None:
            slot, text = taken
            headers["X-Request-Id"] = f"{self.desk.target.run}-{window.order.number}-{slot}"
            body = request_body(text)
            while (early := window.order.scheduled(slot) - window.elapsed()) > 0:
                gevent.sleep(early)
            free = self.send(window, slot, free, body, headers)
        window.leave()

    def send(self, window: OpenWindow, slot: int, free: float, body: bytes, headers: dict[str, str]) -> float:
        """Sends one request, judges the answer, keeps the record; nothing is repeated. Returns when it ended."""
        start = window.elapsed()
        try:
            with gevent.Timeout(self.desk.target.request_seconds):
                outcome, status_code = self._post(body, headers)
        except gevent.Timeout:
            outcome, status_code = Outcome.TIMEOUT, 0
        end = window.elapsed()
        window.add(slot, free, start, end, outcome, status_code)
        self.desk.outage.note(window.begin + start, window.begin + end, outcome, status_code)
        if outcome in (Outcome.TIMEOUT, Outcome.CONNECTION):
            self.client.client.clientpool.close()  # a late answer must not meet the next request
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
    """The users of this process, whichever runner started them, and the windows they work through."""

    def __init__(self, target: Target, corpus: Corpus) -> None:
        self._corpus = corpus
        self._errors: list[BaseException] = []
        self.desk = WindowFeed(target)
        self.environment = Environment(
            user_classes=[PacedUser], host=target.url.rstrip("/"), catch_exceptions=False
        )
        self.environment.desk = self.desk
        self.environment.events.user_error.add_listener(self._keep_error)

    def work(self, order: WindowOrder) -> Window:
        """Works one window to its clean end, when every request begun in it has ended.

        Raises GeneratorError when a user crashed, since the load was then not the one asked for, and OutageError
        with what was measured when the service has been away for too long.
        """
        texts = self._corpus.window_texts(order)
        window = OpenWindow(order, texts, self.environment.runner.user_count)
        cpu_begin = time.process_time()
        self.desk.open(window)
        away = 0.0
        while not window.is_over and not self._errors:
            gevent.sleep(TICK_SECONDS)
            if not away and self.desk.outage.is_too_long(time.perf_counter()):
                away = self.desk.outage.seconds(time.perf_counter())
                window.close()
        cores = (time.process_time() - cpu_begin) / max(window.elapsed(), TICK_SECONDS)
        result = window.result(round(cores / usable_cores(), 4))
        self._check(window)
        if away:
            raise OutageError(self._words(away), result)
        return result

    def _check(self, window: OpenWindow) -> None:
        if self._errors:
            raise GeneratorError(f"a user crashed: {describe_crash(self._errors[0])}") from self._errors[0]
        if window.missing:
            raise GeneratorError(f"{window.missing} requests of window {window.order.number} were sent and lost")

    def _words(self, seconds: float) -> str:
        bound = self.desk.target.max_outage_seconds
        return (
            f"{self.desk.target.url} was not available for {seconds:.1f} s during the run,"
            f" more than maxOutageSeconds {bound:g}"
        )

    def _keep_error(self, exception: BaseException, **_event: object) -> None:
        self._errors.append(exception)


class LocalGenerator:
    """All users in this process. Close it when done."""

    def __init__(self, target: Target, corpus: Corpus, users: int) -> None:
        self._pool = UserPool(target, corpus)
        self._runner: Runner = self._pool.environment.create_local_runner()
        self._runner.start(users, spawn_rate=users)
        self._runner.spawning_greenlet.join()

    def offer(self, order: WindowOrder) -> Window:
        """See UserPool.work."""
        return self._pool.work(order)

    def close(self) -> None:
        """Ends all users at once."""
        self._runner.quit()


def _outcome(response: ResponseContextManager) -> Outcome:
    error = response.request_meta["exception"]
    error = getattr(error, "original", None) or error  # the client wraps a time-out in its RetriesExceeded
    if isinstance(error, TimeoutError | gevent.Timeout):
        return Outcome.TIMEOUT
    if response.status_code not in (0, 200):
        return Outcome.HTTP_ERROR
    if error is not None or not response.status_code:
        return Outcome.CONNECTION
    return Outcome.OK if has_valid_score(response.content) else Outcome.INVALID_ANSWER
