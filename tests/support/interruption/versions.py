"""Operator versions that alternate on one resource, and the differences that this allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from support.builders import SETTINGS
from support.operator.actors import Api
from toxicity_api.base import KIND
from toxicity_operator import names
from toxicity_operator.settings import Images

VERSIONS = {
    "1.0.0": SETTINGS,
    "2.0.0": replace(SETTINGS, images=Images("t:2", "q:2", "awq:2", "s:2", "l:2"), version="2.0.0"),
}
LATER = {"later": {"of": "another version"}}
"""A field that this version does not know."""

DATA = frozenset({"sources", "imageDigests", "outdated"})
"""By name: maps, of which the keys are no fields, and a list that belongs as a whole to whoever changed it."""

TIMES = frozenset({"startedAt", "finishedAt", "lastTransitionTime", "observedGeneration"})


def with_later_fields(value: Any) -> Any:
    """A status of a later version, with an additional field at every depth."""
    if isinstance(value, Mapping):
        parts = {key: part if key in DATA else with_later_fields(part) for key, part in value.items()}
        return parts | LATER
    return [with_later_fields(part) for part in value] if isinstance(value, list) else value


def write_as_later(api: Api, name: str) -> None:
    """Write the status as a later version. A real API server drops fields that are not in its schema."""
    model = api.get(KIND, name) or {}
    if "status" in model:
        api.merge(KIND, name, {"status": with_later_fields(model["status"])}, "/status")


def write_as_earlier(api: Api, name: str) -> None:
    """Write the status and the Deployment as an earlier version, without madeWith and without a version."""
    model = api.get(KIND, name) or {}
    status = model.get("status")
    if status is None:
        return
    patch: dict[str, Any] = {
        key: {"madeWith": None} for key, part in status.items() if isinstance(part, Mapping) and "madeWith" in part
    }
    deployment = api.get("Deployment", names.serving_name(name))
    annotations = (deployment or {}).get("metadata", {}).get("annotations", {})
    if "serving" in patch:
        patch["serving"] |= {"fingerprint": None}
        if status["serving"].get("goodFingerprint") == annotations.get(names.VERSION):
            patch["serving"] |= {"goodFingerprint": annotations.get(names.SERVING_FINGERPRINT)}
    api.merge(KIND, name, {"status": patch | {"outdated": None}}, "/status")
    if names.VERSION in annotations:
        without = {"metadata": {"annotations": {names.VERSION: None}}}
        api.merge("Deployment", names.serving_name(name), {**without, "spec": {"template": without}})


WRITERS = {"as it is": None, "as of a later version": write_as_later, "as of an earlier version": write_as_earlier}


def image_of(deployment: Mapping[str, Any]) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def settled_status(value: Any, version: str | None, *, skewed: bool) -> Any:
    """The part of a status that is equal in two runs with the same result.

    Times and the generations of the stages are removed. After a version skew, madeWith, outdated and the serving
    version are removed too, but that version must be the Deployment's `version`.
    """
    if isinstance(value, list):
        return [settled_status(item, version, skewed=skewed) for item in value]
    if not isinstance(value, Mapping):
        return value
    found = {
        key: settled_status(item, version, skewed=skewed)
        for key, item in value.items()
        if key not in TIMES and not (skewed and key in ("madeWith", "outdated"))
    }
    if isinstance(found.get("madeWith"), Mapping):
        del found["madeWith"]["generation"]
    if skewed and version is not None and found.get("goodFingerprint") == version:
        found["goodFingerprint"] = "what is deployed"
    return found


def settled_deployment(deployment: dict[str, Any]) -> dict[str, Any]:
    """The part of a Deployment that is compared after a version skew: all but the image and the version."""
    image = image_of(deployment)
    assert image in {settings.images.serving for settings in VERSIONS.values()}
    template = deployment["spec"]["template"]
    annotations = {k: v for k, v in template["metadata"]["annotations"].items() if k != names.VERSION}
    (container,) = template["spec"]["containers"]
    pods = {
        "metadata": {**template["metadata"], "annotations": annotations},
        "spec": {**template["spec"], "containers": [{**container, "image": "of some version"}]},
    }
    return {**deployment, "spec": {**deployment["spec"], "template": pods}}
