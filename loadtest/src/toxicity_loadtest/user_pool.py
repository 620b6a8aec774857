"""Offer load with Locust users in this process. Locust is used as a library, without its web interface.

Importing this module lets Locust patch the standard library for gevent, so only the running load test imports it.

The users live as long as the run. A dispatcher takes one slot of the schedule after the other, waits for its time and
gives it to the user that became free last, so that there are only as many connections as open requests. A slot waits
for a user only while all users wait for the service. The window ends with its last answer, so every request belongs to
exactly one window. Each window opens new connections, so that new replicas get requests.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import gevent
from gevent.event import AsyncResult, Event
from locust import FastHttpUser, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.runners import Runner

from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.cpu import CpuMeter, usable_cores
from toxicity_loadtest.errors import GeneratorError, OutageError, describe_crash
from toxicity_loadtest.records import Outcome, Window, WindowOrder
from toxicity_loadtest.routes import Route
from toxicity_loadtest.service import OutageWatch, Target
from toxicity_loadtest.spill import Records, SpillFile
from toxicity_loadtest.window import OpenWindow

KEEP_ALIVE_SECONDS = 2.0
"""Longest pause between two requests with which a user keeps its connection. Many HTTP servers close idle connections
after 5 seconds, and a request at that moment would fail although the service works."""

TICK_SECONDS = 0.05
MAX_SPAWN_RATE = 100
SPAWN_SECONDS = 30.0
"""Longest time to start the users, in seconds."""


class Request(NamedTuple):
    """A slot that is due, for any user. `intended` is its time, in seconds since the window began."""

    window: OpenWindow
    slot: int
    texts: Sequence[str]
    intended: float


class RequestFeed:
    """Gives the due requests to the free users of this process."""

    def __init__(self, target: Target) -> None:
        self.target, self.headers = target, target.headers()
        self.outage = OutageWatch(target.max_outage_seconds)
        self._free: list[AsyncResult] = []
        self._late: deque[Request] = deque()

    def put(self, request: Request) -> None:
        """Give the request to the user that became free last, or keep it until a user becomes free."""
        if not self._free:
            self._late.append(request)
            request.window.late += 1
        elif request.window.admit(request.slot, waited=False):
            self._free.pop().set(request)

    def get(self) -> Request:
        """Wait for a request for this user."""
        while self._late:
            late = self._late.popleft()
            late.window.late -= 1
            if late.window.admit(late.slot, waited=True):
                return late._replace(intended=late.window.elapsed())
        mine: AsyncResult = AsyncResult()
        self._free.append(mine)
        request: Request = mine.get()
        return request


class PacedUser(FastHttpUser):  # type: ignore[misc]  # Locust ships no usable types
    """A Locust user that sends the requests that the dispatcher gives it, one at a time."""

    max_retries = max_redirects = 0

    def on_start(self) -> None:
        self.feed: RequestFeed = self.environment.feed
        self.window: OpenWindow | None = None
        self.idle_since = 0.0

    @task  # type: ignore[untyped-decorator]
    def send_all(self) -> None:
        while True:
            self.send_next(self.feed.get())

    def send_next(self, request: Request) -> None:
        """Send one request, on a new connection if the window is new or the connection has been idle for long."""
        window, is_idle = request.window, time.perf_counter() - self.idle_since > KEEP_ALIVE_SECONDS
        if window is not self.window or is_idle:
            self.client.client.clientpool.close()
        self.window = window
        run = f"{self.feed.target.run}-{window.order.number}-{request.slot}"
        self.send(
            request, self.feed.target.route.request_body(request.texts), {**self.feed.headers, "X-Request-Id": run}
        )
        self.idle_since = time.perf_counter()

    def send(self, request: Request, body: bytes, headers: dict[str, str]) -> None:
        """Send one request without retries, check the answer and keep the record."""
        window, start = request.window, request.window.elapsed()
        try:
            with gevent.Timeout(self.feed.target.request_seconds):
                outcome, status_code = self._post(body, headers, len(request.texts))
        except gevent.Timeout:
            outcome, status_code = Outcome.TIMEOUT, 0
        end = window.elapsed()
        window.add(request.slot, request.intended, start, end, outcome, status_code)
        self.feed.outage.note(window.begin + start, window.begin + end, outcome, status_code)
        if outcome in (Outcome.TIMEOUT, Outcome.CONNECTION):
            self.client.client.clientpool.close()  # a late answer must not be taken for the next request's

    def _post(self, body: bytes, headers: dict[str, str], texts: int) -> tuple[Outcome, int]:
        route = self.feed.target.route
        with self.client.post(
            route.path, data=body, headers=headers, name=route.path, catch_response=True
        ) as response:
            outcome = _outcome(response, route, texts)
            if outcome is Outcome.OK:
                response.success()
            else:
                response.failure(str(outcome))
            return outcome, int(response.status_code or 0)


class UserPool:
    """The users of this process and the windows they work on. A local runner or a worker runner starts them."""

    def __init__(self, target: Target, corpus: Corpus) -> None:
        self._corpus, self._file = corpus, SpillFile()
        self._errors: list[BaseException] = []
        self.feed = RequestFeed(target)
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
        window = OpenWindow(order, self._corpus.window_texts(order), Records(self._file))
        dispatcher = gevent.spawn(self._dispatch, window)
        meter = CpuMeter(usable_cores())
        outage_seconds = 0.0
        while not (dispatcher.ready() and window.is_over) and not self._errors:
            gevent.sleep(TICK_SECONDS)
            if (share := meter.share_per_second()) is not None:
                window.add_cpu(share)
            if not outage_seconds and self.feed.outage.is_too_long(time.perf_counter()):
                outage_seconds = self.feed.outage.seconds(time.perf_counter())
                window.close()
                dispatcher.kill()
        dispatcher.kill()
        dispatcher.get()
        result = window.result(round(meter.share(), 4))
        self._check(window)
        if outage_seconds:
            raise OutageError(self._outage_message(outage_seconds), result)
        return result

    def _dispatch(self, window: OpenWindow) -> None:
        """Give every slot to a user when it is due."""
        while (taken := window.next_slot()) is not None:
            slot, texts = taken
            due = window.order.scheduled(slot)
            if (early := due - window.elapsed()) > 0:
                gevent.sleep(early)
            self.feed.put(Request(window, slot, texts, due))

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


def spawn_rate(users: int) -> float:
    """Return the users to start per second. Locust warns above 100, and many users must not take minutes."""
    return max(float(MAX_SPAWN_RATE), users / SPAWN_SECONDS)


class LocalGenerator:
    """Offers load with all users in this process. Close it when done."""

    def __init__(self, target: Target, corpus: Corpus, users: int) -> None:
        self._pool = UserPool(target, corpus)
        self._runner: Runner = self._pool.environment.create_local_runner()
        started = Event()
        self._pool.environment.events.spawning_complete.add_listener(lambda **_event: started.set())
        self._runner.start(users, spawn_rate=spawn_rate(users))
        started.wait()

    def offer(self, order: WindowOrder) -> Window:
        """Run one window, as UserPool.run_window."""
        return self._pool.run_window(order)

    def close(self) -> None:
        """Stop all users immediately."""
        self._runner.quit()


def _outcome(response: ResponseContextManager, route: Route, texts: int) -> Outcome:
    error = response.request_meta["exception"]
    error = getattr(error, "original", None) or error  # the client wraps a timeout in RetriesExceeded
    if isinstance(error, TimeoutError | gevent.Timeout):
        return Outcome.TIMEOUT
    if response.status_code not in (0, 200):
        return Outcome.HTTP_ERROR
    if error is not None or not response.status_code:
        return Outcome.CONNECTION
    return Outcome.OK if route.has_valid_scores(response.content, texts) else Outcome.INVALID_ANSWER
