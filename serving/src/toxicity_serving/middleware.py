"""What surrounds the routes, outermost first: connections end with the process, classify requests are counted, callers
need the token, and a request gets so many bytes and so much time, and only while its client is there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import time
from collections.abc import Container, Mapping
from typing import Self
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.errors import CLOSE, Answer, Refusal
from toxicity_serving.lifecycle import Service, State
from toxicity_serving.metrics import Metrics, outcome_of
from toxicity_serving.scoring import RETRY

PROTECTED_PREFIX = "/v1"
"""Begins the paths that need the token; the others tell nothing of texts or of the model's quality."""

DEADLINE_HEADER = "x-envoy-expected-rq-timeout-ms"
"""How long the caller waits, in ms. HTTP has no header of its own for this; this one says just that, and Envoy, and
with it every mesh and gateway that is made of it, sends it unasked."""

REQUEST_SECONDS = 60.0
"""The time of a request whose caller says nothing, and the most that one gets."""

CROWDED = Refusal(429, "too many bytes of other requests are in memory; retry later", headers=RETRY)


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
            # no other blanks: read as latin-1, a token in UTF-8 may end in a byte that Unicode calls one
            return bytes(token.strip(" \t").encode("latin-1"))
        query: str = scope["query_string"].decode("latin-1") if scope["path"] in self._key_paths else ""
        return parse_qs(query).get("key", [""])[0].encode()


class Budget:
    """Bytes that the bodies of all requests may hold together."""

    def __init__(self, limit: int) -> None:
        self.left = limit


class Share:
    """One request's part of a budget, given back at the end of its block.

    It grows by what arrives: by what a header promises, a client could hold the budget without sending anything.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def fits(self, size: int) -> bool:
        """Whether the budget has so many bytes left."""
        return size <= self._budget.left

    def take(self, size: int) -> bool:
        """Takes so many bytes, or none when the budget has fewer left."""
        if not self.fits(size):
            return False
        self._budget.left -= size
        self._size += size
        return True

    def free(self) -> None:
        """Gives back what was taken."""
        self._budget.left += self._size
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()


class Bounded:
    """Gives a classify request at most so many bytes, whatever its length says, and so much time.

    Ends its work when the time is over or when the client has gone, which frees its place in the queue. What all
    bodies hold together is bounded too: from the first byte to the end of the request, for the parsed request keeps
    the bytes that it was parsed from.
    """

    def __init__(self, app: ASGIApp, limits: Mapping[str, int], budget: Budget, answer: Answer) -> None:
        """`limits` has the most bytes of a body by path."""
        self._app = app
        self._limits = limits
        self._budget = budget
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_classifying(scope, self._limits):
            await self._app(scope, receive, send)
            return
        with Share(self._budget) as share:
            refusal = await self._answered(scope, receive, send, share)
        if refusal is not None:
            await self._answer(scope["path"], refusal)(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, share: Share) -> Refusal | None:
        """None when the routes have answered."""
        seconds = seconds_of(Headers(scope=scope).get(DEADLINE_HEADER))
        if isinstance(seconds, Refusal):
            return seconds
        deadline = asyncio.get_running_loop().time() + seconds
        body = await self._body(scope, receive, deadline, share)
        if isinstance(body, Refusal):
            return body
        if await self._finished(scope, body, receive, send, deadline):
            return None
        return Refusal(504, f"no answer within {seconds:g} s")

    async def _body(self, scope: Scope, receive: Receive, deadline: float, share: Share) -> bytes | Refusal:
        """The whole body; raises ClientGone when it breaks off.

        One without a length that turns out too large, or one for which the budget no longer suffices, is read to its
        end, and thrown away, for a while: a client that is cut off while it sends may not see the answer.
        """
        most = self._limits[scope["path"]]
        large = Refusal(413, f"the body is larger than {most} bytes")
        refusal = _refused_unread(Headers(scope=scope).get("content-length", "0"), most, share)
        if refusal is not None:
            return refusal
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout_at(deadline):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > 2 * most:
                        return dataclasses.replace(large, headers=CLOSE)
                    if size > most:
                        refusal = large
                    elif refusal is None and not share.take(len(chunk)):
                        refusal = CROWDED
                    chunks.append(chunk)
                    if refusal is not None:
                        chunks.clear()
                        share.free()
                    more = message.get("more_body", False)
        except TimeoutError:
            return Refusal(408, "the body did not arrive in time", headers=CLOSE)
        return refusal or b"".join(chunks)

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


def _refused_unread(length: str, most: int, share: Share) -> Refusal | None:
    """Why a body with this Content-Length need not be read."""
    if not length.isdigit():
        return None
    if int(length) > most:
        return Refusal(413, f"the body is larger than {most} bytes")
    return None if share.fits(int(length)) else CROWDED


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
