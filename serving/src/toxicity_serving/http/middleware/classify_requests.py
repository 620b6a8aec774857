"""Which requests the middleware treats as classify requests, and how it reports that their client has gone."""

from __future__ import annotations

from collections.abc import Container

from starlette.types import Scope


class ClientDisconnected(Exception):
    """The client closed the connection before the response began."""


def is_classify_request(scope: Scope, paths: Container[str]) -> bool:
    """Return whether this is a POST to one of `paths`."""
    return (scope["type"], scope.get("method")) == ("http", "POST") and scope["path"] in paths
