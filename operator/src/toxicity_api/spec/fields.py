"""Types and schema rules that several parts of the spec share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, JsonValue

INT32_MAX = 2**31 - 1
"""Maximum of the Kubernetes fields that count replicas, retries or seconds."""

MAX_GPUS = 1024
"""More than any node has, even if each GPU is shared by time slicing."""

MAX_ROWS = 1_000_000_000
MAX_BATCH_SIZE = 65_536

Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]
Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Score = Annotated[float, Field(ge=0, le=1)]
# numpy, PyTorch and Transformers accept 32 bits
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
NonEmpty = Annotated[str, Field(min_length=1)]
OwnerAndName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
# a relative path whose last part is neither `.` nor `..`
RelativePath = Annotated[str, Field(pattern=r"^([^/]+/)*[^/]*[^/.][^/]*$")]


def cel(rule: str, message: str) -> JsonValue:
    """Build a CEL validation rule of the CRD, with the message that the API server returns if the rule fails."""
    return {"rule": rule, "message": message}


def unchanged(name: str) -> str:
    """Return the CEL rule that an optional field `name` cannot be set, changed or removed."""
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def exactly_one(*names: str) -> dict[str, Any]:
    """Return the schema extension that requires exactly one of the optional fields `names`."""
    count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names)
    listed = ", ".join(names)
    return {
        "x-kubernetes-validations": [cel(f"{count} == 1", f"exactly one source must be set, one of: {listed}")]
    }
