"""Name each request by an id and log it as one line of JSON."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Container
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.http.middleware.classify_requests import ClientDisconnected
from toxicity_serving.http.record import REQUEST_ID_HEADER, RequestRecord, choose_request_id, current_record

access_logger = logging.getLogger("toxicity_serving.access")

CLIENT_CLOSED = 499
"""The status in the log of a request whose client closed the connection, as in nginx. It is never sent."""

MAX_PATH = 200
"""Maximum number of characters of a path in the log."""


class RequestLogMiddleware:
    """Create the request's record, return its id in each response, and log the request when it ends.

    It wraps all other middleware, so that refused requests have an id and a log line too.
    """

    def __init__(self, app: ASGIApp, quiet_paths: Container[str], log: bool) -> None:
        """Successful requests to `quiet_paths` are not logged. Without `log`, none is."""
        self._app = app
        self._quiet_paths = quiet_paths
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(choose_request_id(Headers(scope=scope).get(REQUEST_ID_HEADER)))
        current_record.set(record)  # uvicorn runs each request in a task of its own
        # for Starlette's handler of unexpected errors, whose response does not pass this middleware
        scope.setdefault("state", {})[REQUEST_ID_HEADER] = record.request_id
        status, size, began, is_logged = 500, 0, time.perf_counter(), False

        def log() -> None:
            nonlocal is_logged
            if self._log and not is_logged and (status >= 400 or scope["path"] not in self._quiet_paths):
                access_logger.info(_line(scope, record, status, size, time.perf_counter() - began))
            is_logged = True

        async def send_named(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(raw=message["headers"])[REQUEST_ID_HEADER] = record.request_id
            else:
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    log()  # before the last bytes, so that requests are logged in the order in which they end
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnected:
            status = CLIENT_CLOSED
        finally:
            log()


def _line(scope: Scope, record: RequestRecord, status: int, size: int, seconds: float) -> str:
    """Return the request as JSON. The query is left out: it can contain the token."""
    client = scope.get("client")
    fields = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"][:MAX_PATH],
        "status": status,
        "bytes": size,
        "seconds": round(seconds, 4),
        "texts": record.texts,
        "sentences": record.sentences,
        "windows": record.windows,
        "tokens": record.tokens,
        "tokenize_seconds": _rounded(record.tokenize_seconds),
        "queue_seconds": _rounded(record.queue_seconds),
        "engine_seconds": _rounded(record.engine_seconds),
    }
    return json.dumps({key: value for key, value in fields.items() if value is not None})


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
