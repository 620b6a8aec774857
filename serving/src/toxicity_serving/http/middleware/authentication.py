"""Authenticate requests by the API token."""

from __future__ import annotations

import hmac
from collections.abc import Container
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from toxicity_serving.http.errors import ErrorResponder, Refusal

PROTECTED_PREFIX = "/v1"
"""Prefix of the paths that need the token. The other paths expose neither texts nor the model's quality."""


class TokenMiddleware:
    """Refuse requests to protected paths that do not carry the token."""

    def __init__(self, app: ASGIApp, token: str, key_paths: Container[str], respond: ErrorResponder) -> None:
        """Requests to `key_paths` may send the token as the query parameter `key` instead, as their clients do."""
        self._app = app
        self._token = token.encode()
        self._key_paths = key_paths
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] != "http" or not scope["path"].startswith(PROTECTED_PREFIX)
        if is_open or hmac.compare_digest(self._request_token(scope), self._token):
            await self._app(scope, receive, send)
            return
        message = "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`"
        refusal = Refusal(401, message, headers={"WWW-Authenticate": "Bearer"})
        await self._respond(scope["path"], refusal)(scope, receive, send)

    def _request_token(self, scope: Scope) -> bytes:
        """Return the request's token, or empty bytes without one."""
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # Strip ASCII blanks only: decoded as latin-1, a UTF-8 token can end in a byte that Unicode calls a space.
            return bytes(token.strip(" \t").encode("latin-1"))
        query: str = scope["query_string"].decode("latin-1") if scope["path"] in self._key_paths else ""
        return parse_qs(query).get("key", [""])[0].encode()
