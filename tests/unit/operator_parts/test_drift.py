"""Which differences between a manifest and the live object count as drift."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from toxicity_api.quantities import quantity
from toxicity_operator.observe.drift import first_drift

WANTED: dict[str, Any] = {
    "metadata": {"name": "a", "labels": {"x": "1"}, "annotations": {"hash": "h"}},
    "spec": {
        "strategy": {"type": "Recreate"},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "serve",
                        "image": "serve:1",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
                        "resources": {"requests": {"cpu": "0.5", "memory": "1.5Gi"}, "limits": {"cpu": 2}},
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }
        },
    },
    "rules": [{"verbs": ["get"], "resources": ["pods"]}],
}


def changed(path: str, value: Any, *, add: bool = False) -> dict[str, Any]:
    """WANTED with another value at a path of keys and list indexes; `add` appends to the list there."""
    live = copy.deepcopy(WANTED)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    node: Any = live
    for parent in parents:
        node = node[parent]
    if add:
        node[last].append(value)
    else:
        node[last] = value
    return live


CONTAINER = "spec/template/spec/containers/0"


def test_equal_objects_do_not_differ() -> None:
    assert first_drift(WANTED, copy.deepcopy(WANTED)) is None


@pytest.mark.parametrize(
    "live",
    [
        changed("spec/replicas", 3),
        changed("metadata/annotations/other", "1"),
        changed("spec/template/spec/containers", {"name": "sidecar", "image": "other:1"}, add=True),
        changed(f"{CONTAINER}/env", {"name": "C", "value": "3"}, add=True),
        changed(f"{CONTAINER}/terminationMessagePath", "/dev/termination-log"),
        changed(f"{CONTAINER}/resources/requests", {"cpu": "500m", "memory": "1536Mi"}),
        changed(f"{CONTAINER}/resources/limits", {"cpu": "2"}),
        changed(f"{CONTAINER}/env/1", {"name": "B"}),
    ],
    ids=["replicas", "annotation", "container", "variable", "default", "quantities", "number", "empty value"],
)
def test_what_others_own_and_what_the_server_makes_of_a_value_is_no_drift(live: dict[str, Any]) -> None:
    assert first_drift(WANTED, live) is None


@pytest.mark.parametrize(
    ("live", "path"),
    [
        (changed("spec/strategy/type", "RollingUpdate"), "spec.strategy.type"),
        (changed("metadata/labels", {}), "metadata.labels.x"),
        (changed("metadata/annotations/hash", "older"), "metadata.annotations.hash"),
        (changed(f"{CONTAINER}/image", "evil:1"), "spec.template.spec.containers"),
        (changed(f"{CONTAINER}/env/0/value", "2"), "spec.template.spec.containers"),
        (changed(f"{CONTAINER}/resources/limits/cpu", "3"), "spec.template.spec.containers"),
        (changed("spec/template/spec/volumes", []), "spec.template.spec.volumes"),
        (changed("rules/0/verbs", ["get", "delete"]), "rules"),
        (changed("rules", {"verbs": ["*"], "resources": ["*"]}, add=True), "rules"),
    ],
)
def test_changed_field_of_ours_is_named(live: dict[str, Any], path: str) -> None:
    assert first_drift(WANTED, live) == path


@pytest.mark.parametrize(
    ("text", "same"),
    [("500m", "0.5"), ("1.5Gi", "1536Mi"), ("1e3", "1k"), ("2", "2000m"), ("100n", "0.1u")],
)
def test_quantities_in_two_forms_are_one_number(text: str, same: str) -> None:
    assert quantity(text) == quantity(same)


@pytest.mark.parametrize("text", ["", "much", "1Zi", "Gi", "1 Gi"])
def test_what_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)
