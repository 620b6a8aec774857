"""Parses a raw ToxicityModel into typed objects. No other module reads a raw spec."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from toxicity_api.base import API_GROUP, API_VERSION, KIND, read_document
from toxicity_api.conditions import ConditionType
from toxicity_api.spec import ToxicityModelSpec
from toxicity_api.status import ToxicityModelStatus
from toxicity_operator.errors import InvalidSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Name, namespace, uid and generation of a resource, which do not need a valid spec."""

    name: str
    namespace: str
    uid: str
    generation: int

    def owner_reference(self) -> dict[str, Any]:
        """The owner reference with which the garbage collector deletes a child together with the resource."""
        return {**self.reference(), "controller": True, "blockOwnerDeletion": True}

    def reference(self) -> dict[str, Any]:
        """apiVersion, kind, name and uid."""
        return {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND, "name": self.name, "uid": self.uid}


@dataclass(frozen=True)
class Model:
    """A ToxicityModel: identity, spec and recorded status."""

    identity: Identity
    spec: ToxicityModelSpec
    status: ToxicityModelStatus

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def namespace(self) -> str:
        return self.identity.namespace


def read_identity(raw: Mapping[str, Any]) -> Identity:
    """The identity of a raw resource."""
    metadata = raw["metadata"]
    return Identity(metadata["name"], metadata["namespace"], metadata["uid"], metadata.get("generation", 1))


def read_status(raw: Mapping[str, Any]) -> ToxicityModelStatus:
    """The recorded status. A newer operator may have written it before a downgrade.

    Unknown fields and condition types are ignored. A part of the status that is still invalid, such as an unknown enum
    value, is left out with a warning.
    """
    status = dict(raw.get("status") or {})
    conditions = status.get("conditions")
    if isinstance(conditions, list):
        status["conditions"] = [item for item in conditions if not _is_of_unknown_type(item)]
    try:
        return read_document(ToxicityModelStatus, status, "status")
    except ValidationError as error:
        metadata = raw.get("metadata", {})
        whose = {"namespace": metadata.get("namespace"), "model": metadata.get("name")}
        logger.warning("status_unreadable", extra={**whose, "problem": _problems("status", error)})
        bad = {item["loc"][0] for item in error.errors()}
        return ToxicityModelStatus.model_validate({key: part for key, part in status.items() if key not in bad})


def _is_of_unknown_type(condition: Any) -> bool:
    return isinstance(condition, Mapping) and condition.get("type") not in tuple(ConditionType)


def _problems(part: str, error: ValidationError) -> str:
    return "; ".join(f"{part}.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())


def read_model(raw: Mapping[str, Any]) -> Model:
    """Parse a raw resource. Raises InvalidSpec, whose message names every invalid field."""
    try:
        spec = read_document(ToxicityModelSpec, raw.get("spec") or {}, "spec")
    except ValidationError as error:
        raise InvalidSpec(_problems("spec", error)) from error
    return Model(read_identity(raw), spec, read_status(raw))
