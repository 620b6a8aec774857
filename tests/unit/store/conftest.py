"""The tests of the artifact store run against a real S3 server."""

from __future__ import annotations

from support.store.fixtures import secrets, server, store, versitygw

__all__ = ["secrets", "server", "store", "versitygw"]
