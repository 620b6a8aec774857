"""Redirect to a path, not to an absolute URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RelativeRedirectMiddleware:
    """Remove scheme and host from `Location`. The service redirects to its own paths only.

    Behind a proxy that ends TLS, an absolute URL would lead the client from https to http.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                headers = MutableHeaders(raw=message["headers"])
                if "location" in headers:
                    target = urlsplit(headers["location"])
                    # one slash: a path that begins with two would name another host
                    headers["location"] = "/" + target._replace(scheme="", netloc="").geturl().lstrip("/")
            await send(message)

        await self._app(scope, receive, send_relative)
