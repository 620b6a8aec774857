"""The base class of all documents that processes exchange: spec, status, stage configuration and results.

The reader can be older or newer than the writer: pods outlive an upgrade of the operator, and a rollback leaves a
status of the later version. A reader therefore ignores unknown fields, and every field added after the first release
has a default. A file that a user wrote is read with `extra="forbid"` instead, which names a misspelt field. For a
spec, the API server does this by the schema.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

API_GROUP = "toxicity.dev"
API_VERSION = "v1alpha1"
KIND = "ToxicityModel"
PLURAL = "toxicitymodels"

logger = logging.getLogger(__name__)


class Document(BaseModel):
    """A frozen document with camelCase names in JSON and snake_case names in Python. It ignores unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, use_enum_values=True
    )

    def to_wire(self) -> dict[str, object]:
        """Return the document as JSON-ready data in camelCase, without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


DocumentT = TypeVar("DocumentT", bound=Document)


def read_document(kind: type[DocumentT], content: Any, what: str) -> DocumentT:
    """Read a document that another version may have written, from JSON text or from parsed JSON.

    Unknown fields are ignored at any depth. The log names them once, as fields of `what`. Raises
    pydantic.ValidationError for a missing or invalid known field.
    """
    try:
        return _validated(kind, content, "forbid")
    except ValidationError as error:
        unknown = {_place(item["loc"]) for item in error.errors() if item["type"] == "extra_forbidden"}
    document = _validated(kind, content, "ignore")
    _log_unknown(what, ", ".join(sorted(unknown)))
    return document


def _validated(kind: type[DocumentT], content: Any, extra: Literal["ignore", "forbid"]) -> DocumentT:
    if isinstance(content, str | bytes):
        return kind.model_validate_json(content, extra=extra)
    return kind.model_validate(content, extra=extra)


def _place(location: tuple[int | str, ...]) -> str:
    """Return the path of a field without list indexes, so that a new field of eleven buckets is logged once."""
    return ".".join(part for part in location if isinstance(part, str))


@lru_cache(maxsize=256)
def _log_unknown(what: str, fields: str) -> None:
    """Log the same fields only once, since the operator reads the status at every reconcile."""
    logger.info("unknown_fields_ignored of=%s fields=%s: another version wrote them", what, fields)
