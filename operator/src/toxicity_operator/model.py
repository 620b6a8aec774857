"""The one place where a raw ToxicityModel becomes typed; beyond it nobody sees a raw spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from toxicity_api.base import API_GROUP, API_VERSION, KIND
from toxicity_api.spec import ToxicityModelSpec
from toxicity_api.status import ToxicityModelStatus
from toxicity_operator.errors import InvalidSpec


@dataclass(frozen=True)
class Identity:
    """What is known of a resource before its spec is looked at."""

    name: str
    namespace: str
    uid: str
    generation: int

    def owner_reference(self) -> dict[str, Any]:
        """The reference that lets the garbage collector remove a child together with the resource."""
        return {**self.reference(), "controller": True, "blockOwnerDeletion": True}

    def reference(self) -> dict[str, Any]:
        """apiVersion, kind, name and uid."""
        return {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND, "name": self.name, "uid": self.uid}


@dataclass(frozen=True)
class Model:
    """A ToxicityModel: who it is, what is wanted, what was recorded."""

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
    """Name, namespace, uid and generation of a raw resource."""
    metadata = raw["metadata"]
    return Identity(metadata["name"], metadata["namespace"], metadata["uid"], metadata.get("generation", 1))


def read_status(raw: Mapping[str, Any]) -> ToxicityModelStatus:
    """The recorded status; a field that this version does not know is dropped, not an error."""
    status: Mapping[str, Any] = raw.get("status") or {}
    known = {field.alias or name for name, field in ToxicityModelStatus.model_fields.items()}
    return ToxicityModelStatus.model_validate({key: value for key, value in status.items() if key in known})


def read_model(raw: Mapping[str, Any]) -> Model:
    """A raw resource as a Model. Raises InvalidSpec that names every bad field."""
    try:
        spec = ToxicityModelSpec.model_validate(raw.get("spec") or {})
    except ValidationError as error:
        problems = (f"spec.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InvalidSpec("; ".join(problems)) from error
    return Model(read_identity(raw), spec, read_status(raw))
