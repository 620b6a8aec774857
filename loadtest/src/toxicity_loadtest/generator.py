"""The load itself: Locust as a library, headless, in this process. Importing this module patches the standard
library for gevent (Locust does), so only the running load test imports it.

Each window is one Locust run. Its users start evenly spread over one pace period, keep the pace without drift, and
leave when the window is over; the window is closed when the last of them has its answer. So every request sent is
in exactly one window. Users are new in each window, and with them their connections: replicas that a scale-up
added in between get their share.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import gevent
from gevent.event import Event
from locust import FastHttpUser, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.exception import StopUser

from toxicity_loadtest.answer import CLASSIFY_PATH, has_valid_score, request_body
from toxicity_loadtest.errors import GeneratorError
from toxicity_loadtest.records import Outcome, Record, Window

KEEP_ALIVE_SECONDS = 2.0
"""A user with longer pauses opens a connection per request: HTTP servers drop idle ones, uvicorn after 5 seconds,
and a request that meets the drop would fail by no fault of the service."""

EDGE_SECONDS = 1e-6


class OpenWindow:
    """A window while it is running: hands out starts and texts, collects records."""

    def __init__(self, bucket: str, texts: Sequence[str], users: int, rps: float, seconds: float) -> None:
        self.bucket, self.users, self.seconds = bucket, users, seconds
        self.period = users / rps
        self.records: list[Record] = []
        self.opened = Event()
        self.begin = 0.0
        self._texts = texts
        self._joined = 0
        self.sent = 0

    def open(self) -> None:
        """Starts the clock and lets the users go."""
        self.begin = time.perf_counter()
        self.opened.set()

    def first_start(self) -> float:
        """When the user who asks starts; each further user a step later, the last one before a period is over."""
        index = self._joined
        self._joined += 1
        return self.begin + index * self.period / self.users

    def is_over(self, moment: float) -> bool:
        """Whether a request due at `moment` no longer belongs to this window."""
        return moment >= self.begin + self.seconds - EDGE_SECONDS

    def next_text(self) -> str:
        """The text of the request that is sent now; counts it."""
        text = self._texts[self.sent % len(self._texts)]
        self.sent += 1
        return text


class PacedUser(FastHttpUser):  # type: ignore[misc]  # Locust ships no usable types
    """Sends one request per pace period; when an answer takes longer than that, the next one at once."""

    max_retries = max_redirects = 0

    def on_start(self) -> None:
        self.window: OpenWindow = self.environment.window
        self.window.opened.wait()
        self.due = self.window.first_start()
        if not self.window.is_over(self.due):
            gevent.sleep(max(0.0, self.due - time.perf_counter()))

    def wait_time(self) -> float:
        """Locust's constant_throughput, on a fixed grid and with the intended start kept for the record."""
        self.due = max(self.due + self.window.period, time.perf_counter())
        return 0.0 if self.window.is_over(self.due) else max(0.0, self.due - time.perf_counter())

    @task  # type: ignore[untyped-decorator]
    def classify(self) -> None:
        if self.window.is_over(self.due):
            raise StopUser
        headers = {"Content-Type": "application/json"}
        if self.window.period > KEEP_ALIVE_SECONDS:
            headers["Connection"] = "close"
        body = request_body(self.window.next_text())
        start = time.perf_counter()
        outcome, status_code = self.send(body, headers)
        self.window.records.append(
            Record(self.window.bucket, self.due, start, time.perf_counter(), outcome, status_code)
        )

    def send(self, body: bytes, headers: dict[str, str]) -> tuple[Outcome, int]:
        """Sends one request and judges the answer; nothing is repeated."""
        try:
            with gevent.Timeout(self.environment.request_seconds):
                outcome, status_code = self._post(body, headers)
        except gevent.Timeout:
            outcome, status_code = Outcome.TIMEOUT, 0
        if outcome in (Outcome.TIMEOUT, Outcome.CONNECTION):
            self.client.client.clientpool.close()  # a late answer must not meet the next request
        return outcome, status_code

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[Outcome, int]:
        with self.client.post(
            CLASSIFY_PATH, data=body, headers=headers, name=self.window.bucket, catch_response=True
        ) as response:
            outcome = _outcome(response)
            if outcome is Outcome.OK:
                response.success()
            else:
                response.failure(str(outcome))
            return outcome, int(response.status_code or 0)


class Generator:
    """Offers windows of load to one service; a request may take `request_seconds`. Close it when done."""

    def __init__(self, url: str, users: int, rps: float, request_seconds: float) -> None:
        self._users, self._rps = users, rps
        self._errors: list[BaseException] = []
        self._environment = Environment(user_classes=[PacedUser], host=url.rstrip("/"), catch_exceptions=False)
        self._environment.request_seconds = request_seconds
        self._environment.events.user_error.add_listener(self._keep_error)
        self._runner = self._environment.create_local_runner()

    def offer(self, bucket: str, texts: Sequence[str], seconds: float) -> Window:
        """Runs one window to its clean end, when every request begun in it has ended.

        Raises GeneratorError when a user crashed, since the load was then not the one asked for.
        """
        window = OpenWindow(bucket, texts, self._users, self._rps, seconds)
        self._environment.window = window
        self._runner.start(self._users, spawn_rate=self._users)
        self._runner.spawning_greenlet.join()
        cpu_begin = time.process_time()
        window.open()
        self._runner.user_greenlets.join()
        gevent.sleep(max(0.0, window.begin + seconds - time.perf_counter()))
        cpu_cores = (time.process_time() - cpu_begin) / (time.perf_counter() - window.begin)
        self._runner.stop()
        if self._errors:
            raise GeneratorError(f"a user crashed: {self._errors[0]!r}") from self._errors[0]
        if window.sent != len(window.records):
            raise GeneratorError(f"{window.sent} requests were sent, but {len(window.records)} ended")
        return Window(bucket, seconds, window.begin, cpu_cores, window.records)

    def close(self) -> None:
        """Ends all users at once."""
        self._runner.quit()

    def _keep_error(self, exception: BaseException, **_event: object) -> None:
        self._errors.append(exception)


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
