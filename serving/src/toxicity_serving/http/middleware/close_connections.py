"""Close keep-alive connections while the process stops."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.lifecycle import Service, State


class CloseConnectionsMiddleware:
    """Add `Connection: close` to responses while the service drains or stops.

    Clients then open their next connection to another pod.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.state in (
                State.DRAINING,
                State.STOPPING,
            ):
                MutableHeaders(raw=message["headers"])["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_closing if scope["type"] == "http" else send)
