"""Time limits for connections: how long a client may be silent, send a head, and leave a response unread.

uvicorn limits only the time between two requests. A connection that never sends a request, sends its head byte by
byte, or does not read would stay open for as long as its client wants.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 1 << 16
"""Maximum size of a request's line and headers, as in h11 and in most proxies."""

MAX_PIPELINED = 16
"""Requests that a client may send ahead of their responses. Each takes memory from its head on."""

INVALID = "Invalid HTTP request received."

IPV4_MAPPED = "::ffff:"
"""Prefix of an IPv4 address in IPv6 (RFC 4291, 2.5.5.2)."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Seconds until a connection is closed."""

    idle: int = 75
    """Without any byte of a request: longer than proxies and clients keep an idle connection, a minute at most.

    The client must close first: a request that it sends while the server closes the connection is lost.
    """

    head: float = 20.0
    """From the first byte of a request's head to its last."""

    write: float = 30.0
    """From the moment that the buffers are full to the end of the response."""


class HeadTooLarge(Exception):
    """The head of a request is larger than MAX_HEAD_BYTES."""


class TooManyRequests(Exception):
    """A client sends request after request and does not wait for the responses."""


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 within ConnectionLimits.

    A body is limited by the deadline of its request. What arrives when no request is being answered counts as a head,
    such as a body behind its response.

    httptools does not limit the size of a head, does not read the body of a request that asks for an upgrade, and
    reports trailers as headers. uvicorn queues any number of requests that a client sends ahead.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_head = False  # or behind a response
        self._head_complete = True
        self._head_bytes = 0  # that the parser has reported
        self._pending_bytes = 0  # that it keeps until the end of a header
        self._data = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if (
            self.client is not None
        ):  # an IPv4 client of the listener for both, as the log and trustedProxies write it
            self.client = (self.client[0].removeprefix(IPV4_MAPPED), self.client[1])
        self._receiving = self._abort_after(self._limits.idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_receiving()
        self._stop_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_head and not self._answering():
            self._begin_head()
        self._data = data
        self._pending_bytes += len(data)
        super().data_received(data)
        self._data = b""
        if self._pending_bytes > MAX_HEAD_BYTES:
            self.send_400_response(INVALID)
        self._after_event()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_complete = False
        self._head_bytes = self._pending_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if not self._head_complete:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        self._pending_bytes = 0
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        self._head_complete = True
        if len(self.pipeline) == MAX_PIPELINED:
            self._abort()  # an answer would be taken for that of an earlier request
            raise TooManyRequests
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._pending_bytes = 0
        if not self._answering():  # the end of a body behind its response
            self._stop_receiving()
            self._receiving = self._abort_after(self._limits.idle)

    def _should_upgrade(self) -> bool:
        """Return True for each upgrade request, so that uvicorn leaves it to `handle_websocket_upgrade`."""
        return bool(self.parser.should_upgrade())

    def handle_websocket_upgrade(self) -> None:
        """Answer an upgrade request like any other (RFC 9110, 7.8): parse it again, without the upgrade."""
        paused = sys.exception()
        assert isinstance(paused, httptools.HttpParserUpgrade)
        method = self.parser.get_method()
        if method == b"CONNECT":  # to httptools this is an upgrade too
            self.send_400_response(INVALID)
            return
        version = self.parser.get_http_version().encode()
        headers = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(headers))
        super().data_received(head + self._data[paused.args[0] :])

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._after_event()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self._abort_after(self._limits.write)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._after_event()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _after_event(self) -> None:
        if self._answering():
            self._stop_receiving()
        elif not self.flow.write_paused and not self.transport.is_closing():
            self._stop_writing()
        if self.transport.is_closing() and self._writing is None:
            # closing waits until the client has read the rest
            self._writing = self._abort_after(self._limits.write)

    def _begin_head(self) -> None:
        self._stop_receiving()
        self._in_head = True
        self._receiving = self._abort_after(self._limits.head)

    def _stop_receiving(self) -> None:
        self._in_head = False
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self._abort)

    def _abort(self) -> None:
        """Reset the connection, which drops the buffers here and in the kernel. Closing would wait for the client."""
        reset = struct.pack("ii", 1, 0)  # linger for 0 seconds
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.transport.abort()
