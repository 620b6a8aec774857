"""Limit the size of a request body, and the memory that the bodies of all requests use together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.http.errors import CLOSE, RETRY, ErrorResponder, Refusal
from toxicity_serving.http.middleware.classify_requests import is_classify_request

MEMORY_EXHAUSTED = Refusal(429, "too many bytes of other requests are in memory; retry later", headers=RETRY)


class MemoryBudget:
    """Bytes that the bodies of all requests may use together."""

    def __init__(self, limit: int) -> None:
        self.left = limit


class Reservation:
    """The bytes of a budget that one request uses, released at the end of the `with` block.

    It grows with the bytes that arrive. A reservation of the Content-Length would let a client that sends no body
    block the others.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    def fits(self, size: int) -> bool:
        """Return whether so many more bytes are left in the budget."""
        return size <= self._budget.left

    def grow(self, size: int) -> bool:
        """Reserve so many more bytes; False, without any change, when they do not fit."""
        if not self.fits(size):
            return False
        self._budget.left -= size
        self._size += size
        return True

    def release(self) -> None:
        """Return all reserved bytes to the budget."""
        self._budget.left += self._size
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class BodyLimitMiddleware:
    """Read the whole body of a classify request, within a limit for its path and within a budget for all requests.

    The bytes stay reserved until the request ends, because the parsed request keeps the body in memory.
    """

    def __init__(
        self, app: ASGIApp, limits: Mapping[str, int], budget: MemoryBudget, respond: ErrorResponder
    ) -> None:
        """`limits` maps a path to the maximum size of its bodies in bytes."""
        self._app = app
        self._limits = limits
        self._budget = budget
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_classify_request(scope, self._limits):
            await self._app(scope, receive, send)
            return
        with Reservation(self._budget) as reservation:
            body = await self._read(scope, receive, reservation)
            if isinstance(body, bytes):
                await self._app(scope, _replay(body), send)
                return
        await self._respond(scope["path"], body)(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, reservation: Reservation) -> bytes | Refusal:
        """Return the whole body, or 413 or 429.

        A refused body without Content-Length is read and discarded up to twice the limit: a client whose connection
        closes while it sends may not see the response.
        """
        limit = self._limits[scope["path"]]
        too_large = Refusal(413, f"the body is larger than {limit} bytes")
        refusal = _check_length(Headers(scope=scope).get("content-length", "0"), limit, reservation)
        if refusal is not None:
            return refusal
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > 2 * limit:
                return dataclasses.replace(too_large, headers=CLOSE)
            if size > limit:
                refusal = too_large
            elif refusal is None and not reservation.grow(len(chunk)):
                refusal = MEMORY_EXHAUSTED
            chunks.append(chunk)
            if refusal is not None:
                chunks.clear()
                reservation.release()
            more = message.get("more_body", False)
        return refusal or b"".join(chunks)


def _check_length(length: str, limit: int, reservation: Reservation) -> Refusal | None:
    """Return the refusal of a body with this Content-Length, before it is read."""
    if not length.isdigit():
        return None
    if int(length) > limit:
        return Refusal(413, f"the body is larger than {limit} bytes")
    return None if reservation.fits(int(length)) else MEMORY_EXHAUSTED


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
