"""Stop the work for a classify request at its deadline or when its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.http.errors import CLOSE, ErrorResponder, Refusal
from toxicity_serving.http.middleware.classify_requests import ClientDisconnected, is_classify_request

DEADLINE_HEADER = "x-envoy-expected-rq-timeout-ms"
"""How long the caller waits, in ms. HTTP defines no such header; Envoy, and the meshes and gateways built on it, send
this one by default."""

REQUEST_SECONDS = 60.0
"""The time limit of a request without DEADLINE_HEADER, and the upper bound for the header's value."""


class DeadlineMiddleware:
    """Cancel a classify request at its deadline or when its client disconnects, which frees its place in the queue.

    A body that is incomplete at the deadline is answered with 408, a complete one with 504. Raises ClientDisconnected.
    """

    def __init__(self, app: ASGIApp, paths: Container[str], respond: ErrorResponder) -> None:
        self._app = app
        self._paths = paths
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_classify_request(scope, self._paths):
            await self._app(scope, receive, send)
            return
        limit = time_limit(Headers(scope=scope).get(DEADLINE_HEADER))
        refusal = limit if isinstance(limit, Refusal) else await self._run(scope, receive, send, limit)
        if refusal is not None:
            await self._respond(scope["path"], refusal)(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> Refusal | None:
        """Return None when the application has responded. Raises ClientDisconnected."""
        body_complete, responding = asyncio.Event(), asyncio.Event()

        async def receive_body() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            if not message.get("more_body", False):
                body_complete.set()
            return message

        async def send_observed(message: Message) -> None:
            responding.set()
            await send(message)

        disconnect = asyncio.create_task(_wait_for_disconnect(receive, body_complete))
        work = asyncio.create_task(_call(self._app, scope, receive_body, send_observed))
        try:
            await asyncio.wait({disconnect, work}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or responding.is_set():
                await work
                return None
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if disconnect.done():
                raise ClientDisconnected
        finally:
            disconnect.cancel()
            work.cancel()
        if body_complete.is_set():
            return Refusal(504, f"no answer within {seconds:g} s")
        return Refusal(408, "the body did not arrive in time", headers=CLOSE)


def time_limit(header: str | None) -> float | Refusal:
    """Return the seconds that the value of DEADLINE_HEADER allows, at most REQUEST_SECONDS; 400 for a wrong value."""
    if header is None:
        return REQUEST_SECONDS
    if not (header.isascii() and header.isdigit() and len(header) < 16 and int(header) > 0):
        return Refusal(400, f"{DEADLINE_HEADER}: expected a whole number of milliseconds above 0")
    return min(REQUEST_SECONDS, int(header) / 1000)


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _wait_for_disconnect(receive: Receive, body_complete: asyncio.Event) -> None:
    # Only one task may read: until the body is complete, the application does, and sees the disconnect itself.
    await body_complete.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
