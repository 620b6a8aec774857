"""Type aliases that all parts share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Raw = Mapping[str, Any]
"""A Kubernetes object as the API server returns it: parsed JSON, not validated."""

Key = tuple[str, str]
"""Namespace and name of a resource."""
