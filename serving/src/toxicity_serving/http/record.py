"""What is known about the current request, for its response, the access log, the traces and other log lines.

The outermost middleware creates the record. Tasks that the request starts inherit it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID_HEADER = "x-request-id"
"""The client's name for the request. The response repeats it, or has a new one."""

MAX_ID_LENGTH = 128
_ID = re.compile(rf"[A-Za-z0-9._:/+=@-]{{1,{MAX_ID_LENGTH}}}")


@dataclass
class RequestRecord:
    """One request. The counts and the seconds are None until the texts were scored.

    `body` is the decoded body until a route takes it. `hold(size)` makes the request's reservation of memory `size`
    bytes and returns whether they fit.
    """

    request_id: str
    body: bytes | None = None
    hold: Callable[[int], bool] | None = None
    texts: int | None = None
    sentences: int | None = None
    windows: int | None = None
    tokens: int | None = None
    tokenize_seconds: float | None = None
    queue_seconds: float | None = None
    engine_seconds: float | None = None


current_record: ContextVar[RequestRecord | None] = ContextVar("current_record", default=None)


def choose_request_id(sent: str | None) -> str:
    """Return the client's id, or a new one if it is missing, too long or has other characters than an id.

    A log and a response header repeat the id, so it must not contain quotes, blanks or line ends.
    """
    return sent if sent is not None and _ID.fullmatch(sent) else uuid.uuid4().hex


def current_request_id() -> str:
    """Return the id of the current request, or `-` outside a request."""
    record = current_record.get()
    return "-" if record is None else record.request_id
