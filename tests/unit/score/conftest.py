"""Fixtures of the tests of bulk scoring."""

from support.score.command import command, service
from support.store.fixtures import secrets, server, versitygw

__all__ = ["command", "secrets", "server", "service", "versitygw"]
