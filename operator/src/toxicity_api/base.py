"""The base class of every document that crosses a process border: spec, status, stage configuration, results.

Its reader may be older or newer than its writer: pods outlive an upgrade of the operator, and after a roll-back
there is a status of the later version. So a field that the reader does not know is ignored, and every field that is
younger than the first release has a default. A file that a person wrote is read with `extra="forbid"` instead, which
names a misspelt field; of a spec the API server does that, by the schema.
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
    """Frozen, camelCase outside and snake_case inside; an unknown field is ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, use_enum_values=True
    )

    def to_wire(self) -> dict[str, object]:
        """The document as JSON-ready data in camelCase, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


DocumentT = TypeVar("DocumentT", bound=Document)


def read_document(kind: type[DocumentT], content: Any, what: str) -> DocumentT:
    """A document that another version may have written, from JSON text or from the data in it.

    Fields that this version does not know are ignored at any depth; the log names them once, as those of `what`.
    Raises pydantic.ValidationError for what is missing or wrong in the fields that it knows.
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
    """Where a field is, without the places in lists: eleven buckets with a new field are one piece of news."""
    return ".".join(part for part in location if isinstance(part, str))


@lru_cache(maxsize=256)
def _log_unknown(what: str, fields: str) -> None:
    """Once for the same fields: the operator reads a status at every pass."""
    logger.info("unknown_fields_ignored of=%s fields=%s: another version wrote them", what, fields)
