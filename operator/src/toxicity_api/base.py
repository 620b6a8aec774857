"""The base class of every document that crosses a process border: spec, status, stage configuration, results."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

API_GROUP = "toxicity.dev"
API_VERSION = "v1alpha1"
KIND = "ToxicityModel"
PLURAL = "toxicitymodels"


class Document(BaseModel):
    """Frozen, camelCase outside and snake_case inside; an unknown field is an error that names it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, use_enum_values=True
    )

    def to_wire(self) -> dict[str, object]:
        """The document as JSON-ready data in camelCase, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
