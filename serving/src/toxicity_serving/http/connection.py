"""Time limits for connections: how long a client may be silent, send a head, and leave a response unread.

uvicorn limits only the time between two requests. A connection that never sends a request, sends its head byte by
byte, or does not read would stay open for as long as its client wants.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

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


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 within ConnectionLimits.

    A body is limited by the deadline of its request. What arrives when no request is being answered counts as a head,
    such as a body behind its response.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_head = False

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
        super().data_received(data)
        self._after_event()

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
        else:
            if not self.flow.write_paused and not self.transport.is_closing():
                self._stop_writing()
            if not self._in_head and self.conn.trailing_data[0]:
                self._begin_head()
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
