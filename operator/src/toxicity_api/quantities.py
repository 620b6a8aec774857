"""Kubernetes quantities such as `500m` or `1.5Gi`. Equal amounts compare equal in any notation."""

from __future__ import annotations

import re
from decimal import Decimal

SUFFIXES: dict[str, Decimal] = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip


def quantity(text: str) -> Decimal:
    """Parse a quantity. Raises ValueError for any other text."""
    match = re.fullmatch(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", text)
    if match is None or match[2] not in SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * SUFFIXES[match[2]]


def canonical(text: str) -> str:
    """Return the same text for all notations of an amount: `2` for `2`, `2.0` and `2000m`.

    A text that is not a quantity is returned unchanged. The API server then refuses the pod.
    """
    try:
        return f"{quantity(text).normalize():f}"
    except (ValueError, ArithmeticError):
        return text
