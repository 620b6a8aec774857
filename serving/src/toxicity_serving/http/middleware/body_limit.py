"""Limit the size of a request body, and the memory that the bodies of all requests use together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.http.decoding import Decoder, DecodingError, decoder_for
from toxicity_serving.http.errors import CLOSE, RETRY, ErrorResponder, Refusal
from toxicity_serving.http.middleware.classify_requests import is_classify_request
from toxicity_serving.http.record import current_record

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

    def resize(self, size: int) -> bool:
        """Reserve exactly `size` bytes; False, without any change, when they do not fit."""
        return self.grow(size - self._size)

    def release(self) -> None:
        """Return all reserved bytes to the budget."""
        self._budget.left += self._size
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class BodyLimitMiddleware:
    """Read and decode the whole body of a POST, within a limit for its path and within a budget for all requests.

    The limit applies to the bytes that arrive and to the decoded ones. The decoded bytes stay reserved until the
    route has parsed them and reserves what its texts take.
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
                record = current_record.get()
                assert record is not None, "RequestLogMiddleware wraps this one"
                record.body, record.hold = body, reservation.resize
                del body
                await self._app(scope, _no_more, send)
                return
        await self._respond(scope["path"], body)(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, reservation: Reservation) -> bytes | Refusal:
        """Return the whole body, or 400, 413, 415 or 429.

        A refused body without Content-Length is read and discarded up to twice the limit: a client whose connection
        closes while it sends may not see the response.
        """
        limit, headers = self._limits[scope["path"]], Headers(scope=scope)
        refusal = _check_length(headers.get("content-length", "0"), limit, reservation)
        if refusal is not None:
            return refusal
        decoder = decoder_for(",".join(headers.getlist("content-encoding")))
        body = _Body(limit, reservation, decoder)
        received, more = 0, True
        while more:
            message = await receive()
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > 2 * limit:
                return dataclasses.replace(_too_large(limit), headers=CLOSE)
            body.add(chunk, received)
            more = message.get("more_body", False)
        return body.finish()


class _Body:
    """A body that arrives. Once it is refused, it keeps no data and reserves no memory."""

    def __init__(self, limit: int, reservation: Reservation, decoder: Decoder | Refusal) -> None:
        self._limit = limit
        self._reservation = reservation
        self._decoder = decoder
        self._chunks: list[bytes] = []
        self._size = 0
        self._refusal = decoder if isinstance(decoder, Refusal) else None

    def add(self, chunk: bytes, received: int) -> None:
        """Decode `chunk` and keep it, or refuse the body. `received` is the number of bytes that arrived so far."""
        if self._refusal is not None or isinstance(self._decoder, Refusal):
            return
        try:
            decoded = self._decoder.decode(chunk, self._limit - self._size)
        except DecodingError as error:
            self._refuse(Refusal(400, str(error)))
            return
        self._size += len(decoded)
        if max(self._size, received) > self._limit:
            self._refuse(_too_large(self._limit))
        elif not self._reservation.grow(len(decoded)):
            self._refuse(MEMORY_EXHAUSTED)
        else:
            self._chunks.append(decoded)

    def finish(self) -> bytes | Refusal:
        """Return the decoded body, or why it was refused."""
        if self._refusal is None and not isinstance(self._decoder, Refusal):
            try:
                self._decoder.finish()
            except DecodingError as error:
                self._refuse(Refusal(400, str(error)))
        return self._refusal or b"".join(self._chunks)

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._chunks.clear()
        self._reservation.release()


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit} bytes; send fewer or shorter texts")


def _check_length(length: str, limit: int, reservation: Reservation) -> Refusal | None:
    """Return the refusal of a body with this Content-Length, before it is read."""
    if not length.isdigit():
        return None
    if int(length) > limit:
        return _too_large(limit)
    return None if reservation.fits(int(length)) else MEMORY_EXHAUSTED


async def _no_more() -> Message:
    """Receive nothing more: the route takes the body from the record, where it can be dropped after parsing."""
    return {"type": "http.request", "body": b"", "more_body": False}
