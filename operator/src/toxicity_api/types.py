"""Names of the types that every part hands around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Raw = Mapping[str, Any]
"""A Kubernetes object as the API server sends it: JSON, not validated."""

Key = tuple[str, str]
"""Namespace and name of a resource."""
