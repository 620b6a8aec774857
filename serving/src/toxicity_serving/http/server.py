"""uvicorn with a drain: on SIGTERM the service turns unready, answers on for a while, then finishes what it has."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from toxicity_serving.http.middleware.deadline import REQUEST_SECONDS
from toxicity_serving.lifecycle import Service, State

DRAIN_SECONDS = 10.0
"""How long new requests are still taken after SIGTERM: proxies learn of the removed endpoint with a delay."""

FINISH_SECONDS = int(REQUEST_SECONDS) + 5
"""How long requests in flight may take after that: each ends by itself in its own time, with an answer in its shape."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than proxies and clients keep theirs, which is a minute at most.

Who closes first is safe: a request that is sent while the other side closes is lost.
"""


def listen(port: int) -> socket.socket:
    """A listener on all addresses of the pod: clusters give it IPv4 ones, IPv6 ones or both. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def server_config(app: FastAPI, finish_seconds: int = FINISH_SECONDS) -> uvicorn.Config:
    """How HTTP is spoken. h11, though another parser is installed beside vLLM and would be taken.

    httptools bounds no header, and takes the body of a request that asks for an upgrade for the next request.
    """
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=finish_seconds,
    )


class DrainingServer(uvicorn.Server):
    """Stops in two steps; a second signal skips the first. `run` takes the listener."""

    def __init__(self, app: FastAPI, drain_seconds: float = DRAIN_SECONDS) -> None:
        super().__init__(server_config(app))
        self._service: Service = app.state.service
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler: drains when there is something to drain."""
        if self._service.state is State.STARTING:
            _exit_at_once()
        elif self._service.state is State.READY:
            self._service.transition(State.DRAINING, "the process was asked to stop")
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self._stop)
        else:
            super().handle_exit(sig, frame)

    def _stop(self) -> None:
        # refused from now on, by an answer as long as the listener is open: closing that cuts off only what would
        # have been refused
        self._service.transition(State.STOPPING, "what is in flight is finished")
        # not through uvicorn's handler, which raises the signal again at the end: a drained stop is a clean one
        self.should_exit = True


def _exit_at_once() -> None:
    """While the engine loads nothing is in flight, and the loading thread would hold the process for a minute."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)
