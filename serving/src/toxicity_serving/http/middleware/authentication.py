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

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="toxicity-model"'}
"""RFC 6750 requires a parameter, and Google's Python client raises a parse error without one."""


class TokenMiddleware:
    """Refuse requests to protected paths that do not carry the token."""

    def __init__(self, app: ASGIApp, token: str, key_paths: Container[str], respond: ErrorResponder) -> None:
        """Requests to `key_paths` may send the token as Google's clients do: in X-Goog-Api-Key, or as `?key=`."""
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
        if scope["path"] in self._key_paths:
            message += ", as the header X-Goog-Api-Key or as the parameter key"
        refusal = Refusal(401, message, headers=CHALLENGE)
        await self._respond(scope["path"], refusal)(scope, receive, send)

    def _request_token(self, scope: Scope) -> bytes:
        """Return the request's token, or empty bytes without one."""
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # Strip ASCII blanks only: decoded as latin-1, a UTF-8 token can end in a byte that Unicode calls a space.
            return bytes(token.strip(" \t").encode("latin-1"))
        if scope["path"] not in self._key_paths:
            return b""
        if key := headers.get("x-goog-api-key", "").strip(" \t"):
            return key.encode("latin-1")
        query: str = scope["query_string"].decode("latin-1")
        return parse_qs(query).get("key", [""])[0].encode()
