"""uvicorn with draining: after SIGTERM the service is unready, accepts requests for a while, then finishes the rest."""

from __future__ import annotations

import asyncio
import functools
import logging
import multiprocessing
import os
import socket
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from toxicity_api.results import EXIT_FAILED
from toxicity_serving.http.connection import ConnectionLimits, LimitedProtocol
from toxicity_serving.http.middleware.deadline import REQUEST_SECONDS
from toxicity_serving.lifecycle import Service, State

DRAIN_SECONDS = 10.0
"""How long new requests are accepted after SIGTERM: proxies see the removed endpoint with a delay."""

FINISH_SECONDS = int(REQUEST_SECONDS) + 5
"""How long requests in flight may take after that. It exceeds REQUEST_SECONDS, so that each request gets a response."""


def listen(port: int) -> socket.socket:
    """Listen on all addresses of the pod, which can be IPv4, IPv6 or both. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def server_config(
    app: FastAPI, finish_seconds: int = FINISH_SECONDS, limits: ConnectionLimits | None = None
) -> uvicorn.Config:
    """Return uvicorn's configuration, with httptools and uvloop."""
    proxies: list[str] = app.state.service.config.http.trusted_proxies
    limits = limits or ConnectionLimits()
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], functools.partial(LimitedProtocol, limits=limits)),
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=limits.idle,
        timeout_graceful_shutdown=finish_seconds,
    )


class DrainingServer(uvicorn.Server):
    """A server that drains, then stops. A second signal ends the draining at once. `run` takes the listener."""

    def __init__(self, app: FastAPI, drain_seconds: float = DRAIN_SECONDS) -> None:
        super().__init__(server_config(app))
        self._service: Service = app.state.service
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM: exit at once while starting, drain when ready, stop otherwise."""
        if self._service.state is State.STARTING:
            _exit_at_once()
        elif self._service.state is State.READY:
            self._service.transition(State.DRAINING, "the process received a stop signal")
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self._stop)
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and exit at once after a failure: a thread that hangs in the engine or the volume never ends."""
        await super().shutdown(sockets)
        if self._service.state is State.FAILED:
            logging.shutdown()
            os._exit(EXIT_FAILED)

    def _stop(self) -> None:
        # New requests are refused from here on, so closing the listener cannot drop one that would be served.
        self._service.transition(State.STOPPING, "requests in flight are being finished")
        # uvicorn's handler would raise the signal again at the end, but a drained stop exits with 0
        self.should_exit = True


def _exit_at_once() -> None:
    """Exit while the engine loads: nothing is in flight, and the loading thread would block the exit for a minute."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)
