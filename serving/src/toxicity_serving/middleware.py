"""What surrounds the routes, outermost first: connections end with the process, classify requests are counted, callers
need the token, and a request gets so many bytes and so much time, and only while its client is there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import time
from collections.abc import Container
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.errors import Answer, Refusal
from toxicity_serving.lifecycle import Service, State
from toxicity_serving.metrics import Metrics, outcome_of

PROTECTED_PREFIX = "/v1"
"""Begins the paths that need the token; the others tell nothing of texts or of the model's quality."""

DEADLINE_HEADER = "x-envoy-expected-rq-timeout-ms"
"""How long the caller waits, in ms. HTTP has no header of its own for this; this one says just that, and Envoy, and
with it every mesh and gateway that is made of it, sends it unasked."""

_CLOSE = {"Connection": "close"}

REQUEST_SECONDS = 60.0
"""The time of a request whose caller says nothing, and the most that one gets."""


class ClientGone(Exception):
    """Nobody is there any more to be answered."""


class ClosingConnections:
    """Ends kept-alive connections once the process is to stop, so that their clients go elsewhere in good time."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.state in (
                State.DRAINING,
                State.STOPPING,
            ):
                MutableHeaders(raw=message["headers"])["connection"] = "close"
            await send(message)

        await self._app(scope, receive, closing if scope["type"] == "http" else send)


class Counting:
    """Counts and times classify requests from outside, so that refused ones count too."""

    def __init__(self, app: ASGIApp, paths: Container[str], metrics: Metrics) -> None:
        self._app = app
        self._paths = paths
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_classifying(scope, self._paths):
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began, gone = time.perf_counter(), False
        try:
            with self._metrics.in_flight.track_inprogress():
                await self._app(scope, receive, watch)
        except ClientGone:
            gone = True
        finally:
            self._metrics.duration.observe(time.perf_counter() - began)
            self._metrics.requests.labels("cancelled" if gone else outcome_of(status)).inc()


class Token:
    """Lets only requests with the token through to what begins with PROTECTED_PREFIX."""

    def __init__(self, app: ASGIApp, token: str, key_paths: Container[str], answer: Answer) -> None:
        """`key_paths` also take the token as the query's `key`, as their clients send it."""
        self._app = app
        self._token = token.encode()
        self._key_paths = key_paths
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] != "http" or not scope["path"].startswith(PROTECTED_PREFIX)
        if is_open or hmac.compare_digest(self._given(scope), self._token):
            await self._app(scope, receive, send)
            return
        message = "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`"
        refusal = Refusal(401, message, headers={"WWW-Authenticate": "Bearer"})
        await self._answer(scope["path"], refusal)(scope, receive, send)

    def _given(self, scope: Scope) -> bytes:
        """The request's token, empty without one."""
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return bytes(token.strip().encode("latin-1"))
        query: str = scope["query_string"].decode("latin-1") if scope["path"] in self._key_paths else ""
        return parse_qs(query).get("key", [""])[0].encode()


class Bounded:
    """Gives a classify request at most so many bytes, whatever its length says, and so much time.

    Ends its work when the time is over or when the client has gone, which frees its place in the queue.
    """

    def __init__(self, app: ASGIApp, paths: Container[str], max_bytes: int, answer: Answer) -> None:
        self._app = app
        self._paths = paths
        self._max_bytes = max_bytes
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_classifying(scope, self._paths):
            await self._app(scope, receive, send)
            return
        seconds = seconds_of(Headers(scope=scope).get(DEADLINE_HEADER))
        if isinstance(seconds, Refusal):
            await self._answer(scope["path"], seconds)(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + seconds
        body = await self._body(scope, receive, deadline)
        if isinstance(body, Refusal):
            await self._answer(scope["path"], body)(scope, receive, send)
        elif not await self._finished(scope, body, receive, send, deadline):
            late = Refusal(504, f"no answer within {seconds:g} s")
            await self._answer(scope["path"], late)(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive, deadline: float) -> bytes | Refusal:
        """The whole body; raises ClientGone when it breaks off.

        One without a length that turns out too large is read to its end, and thrown away, for a while: a client that
        is cut off while it sends may not see the answer.
        """
        large = Refusal(413, f"the body is larger than {self._max_bytes} bytes")
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes:
            return large
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout_at(deadline):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    size += len(message.get("body", b""))
                    if size > 2 * self._max_bytes:
                        return dataclasses.replace(large, headers=_CLOSE)
                    if size <= self._max_bytes:
                        chunks.append(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            return Refusal(408, "the body did not arrive in time", headers=_CLOSE)
        return b"".join(chunks) if size <= self._max_bytes else large

    async def _finished(self, scope: Scope, body: bytes, receive: Receive, send: Send, deadline: float) -> bool:
        """Whether the routes have answered; raises ClientGone when nobody waits for it."""
        answering = asyncio.Event()

        async def watch(message: Message) -> None:
            answering.set()
            await send(message)

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        gone = asyncio.create_task(_until_gone(receive))
        work = asyncio.create_task(_run(self._app, scope, replay, watch))
        try:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait({gone, work}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or answering.is_set():
                await work
                return True
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if gone.done():
                raise ClientGone
            return False
        finally:
            gone.cancel()
            work.cancel()


def is_classifying(scope: Scope, paths: Container[str]) -> bool:
    """Whether this is a request for scores."""
    return (scope["type"], scope.get("method")) == ("http", "POST") and scope["path"] in paths


def seconds_of(header: str | None) -> float | Refusal:
    """The time that DEADLINE_HEADER gives, REQUEST_SECONDS at most and without it."""
    if header is None:
        return REQUEST_SECONDS
    if not (header.isascii() and header.isdigit() and len(header) < 16 and int(header) > 0):
        return Refusal(400, f"{DEADLINE_HEADER}: expected a whole number of milliseconds above 0")
    return min(REQUEST_SECONDS, int(header) / 1000)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
