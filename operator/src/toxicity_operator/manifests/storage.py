"""The PersistentVolumeClaim of the artifacts, which all stages share."""

from __future__ import annotations

from toxicity_operator import names
from toxicity_operator.manifests.common import Manifest, manifest
from toxicity_operator.model import Model


def build_claim(model: Model) -> Manifest | None:
    """The PersistentVolumeClaim; None if the spec names an existing one or an object store."""
    storage = model.spec.storage
    if not storage.makes_claim:
        return None
    spec: Manifest = {
        "accessModes": list(storage.access_modes),
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    name = names.claim_name(model.name)
    claim = manifest("v1", "PersistentVolumeClaim", model, name, names.STORAGE, spec=spec)
    if storage.reclaim == "Retain":
        del claim["metadata"]["ownerReferences"]  # so that the garbage collector keeps it
    return claim
