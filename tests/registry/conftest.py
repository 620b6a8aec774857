"""The cluster and the registry of these tests."""

from support.e2e.private_registry import private

__all__ = ["private"]
