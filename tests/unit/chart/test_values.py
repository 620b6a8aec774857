"""The values: each is described, none that is not there is accepted, and each has an effect."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from support.chart import CHART, EVERYTHING, Documents, Render, leaves, load_values
from toxicity_cluster.errors import CommandFailed

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = load_values(CHART / "values.yaml")
EXERCISED = load_values(EVERYTHING)

NOT_TURNED = {"crds.enabled": False, "global.imageRegistry": "mirror.example", "serviceAccount.create": False}
"""Values that have their default in the exercise file, because another value would hide others."""


VERBATIM = {"global", "affinity", "topologySpreadConstraints", "valueFrom", "emptyDir"}
"""Values that are copied into a pod, with the keys of Kubernetes, and those that charts share."""


def schemas(node: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below `node` that is one of an object, or has properties, with where it stands."""
    if isinstance(node, dict):
        if node.get("type") == "object" or "properties" in node:
            yield path, node
        for key, value in node.items():
            yield from schemas(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from schemas(value, f"{path}[{index}]")


def dereferenced(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/definitions/")
    found: dict[str, Any] = SCHEMA["definitions"][name] if name else schema
    return found


def test_schema_is_closed_at_every_level() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    found = dict(schemas(SCHEMA))
    assert len(found) > 15
    # a schema as additionalProperties is a map of people's own keys, such as a nodeSelector
    assert [path for path, node in found.items() if node.get("additionalProperties", True) is True] == []


def test_unknown_key_is_refused_wherever_it_stands() -> None:
    validator = jsonschema.Draft7Validator(SCHEMA)
    assert list(validator.iter_errors(EXERCISED)) == []
    tried = 0
    for path in mappings(EXERCISED):
        if VERBATIM & set(path):
            continue
        changed = copy.deepcopy(EXERCISED)
        node = changed
        for key in path:
            node = node[key]
        node["unknownKey"] = {}
        assert list(validator.iter_errors(changed)), f"unknownKey is accepted in {path}"
        tried += 1
    assert tried > 15


def mappings(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the mappings are."""
    if isinstance(node, dict):
        yield path
        for key, value in node.items():
            yield from mappings(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from mappings(value, (*path, index))


def test_every_value_is_described() -> None:
    silent = [
        f"{path}.{name}"
        for path, node in schemas(SCHEMA)
        for name, value in node.get("properties", {}).items()
        if isinstance(value, dict) and not value.get("description", "").endswith(".")
    ]
    assert silent == []


def test_defaults_name_every_value() -> None:
    """What the schema knows stands in values.yaml, where people look; inside maps of their own it need not."""

    def known(schema: dict[str, Any], path: str = "") -> Iterator[str]:
        properties = dereferenced(schema).get("properties", {})
        required = dereferenced(schema).get("required", list(properties))
        for name in required:
            inner = f"{path}.{name}" if path else name
            yield from (
                known(properties[name], inner) if dereferenced(properties[name]).get("required") else [inner]
            )

    assert [path for path in known(SCHEMA) if not contains(DEFAULTS, path)] == []
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(DEFAULTS)) == []


def contains(values: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def test_exercise_file_turns_every_value() -> None:
    turned = leaves(EXERCISED)
    kept = {path for path, default in leaves(DEFAULTS).items() if turned.get(path, default) == default}
    # an empty map has no leaves of its own: what stands in it has
    kept = {path for path in kept if not any(leaf.startswith(f"{path}.") for leaf in turned)}
    assert kept == set(NOT_TURNED)


@pytest.fixture(scope="module")
def turned(render: Render) -> Documents:
    """The objects with every knob turned."""
    return render("-f", str(EVERYTHING))


@pytest.mark.parametrize("path", sorted(leaves(DEFAULTS)))
def test_each_value_has_an_effect(render: Render, turned: Documents, tmp_path: Path, path: str) -> None:
    *parents, last = path.split(".")
    changed = copy.deepcopy(EXERCISED)
    node, default = changed, DEFAULTS
    for key in parents:
        node, default = node.setdefault(key, {}), default[key]
    node[last] = NOT_TURNED.get(path, default[last])
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(changed), encoding="utf-8")
    assert render("-f", str(file)) != turned


def test_values_that_a_parent_chart_shares_are_let_through(render: Render, defaults: Documents) -> None:
    assert render("--set", "global.storageClass=fast,global.nested.key=1") == defaults


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("watchNamespace=x", "watchNamespace"),
        ("images.trainning=a:b", "trainning"),
        ("operator.resources.limit.cpu=1", "limit"),
        ("operator.resources.limits.cpus=1", "cpus"),
        ("crds.kept=true", "kept"),
        ("logLevel=verbose", "logLevel"),
        ("images.operator=", "operator"),
        ("images.operator.tags=1", "tags"),
        ("images.operator.digest=1234", "digest"),
        ("global.imageRegistry=https://mirror.example", "imageRegistry"),
        ("serviceAccount.create=false", r"set serviceAccount\.name"),
        (r"commonLabels.app\.kubernetes\.io/name=x", "propertyName"),
        (r"operator.podLabels.helm\.sh/chart=x", "propertyName"),
        ("networkPolicy.apiServer.ports={}", "ports"),
        ("networkPolicy.apiServer.ports={70000}", "ports"),
        ("networkPolicy.apiServer.cidrs={10.0.0.1}", "cidrs"),
        ("metrics.serviceMonitor.interval=often", "interval"),
        ("metrics.enabled=true", "enabled"),
        ("admissionPolicies.images={https://registry.example}", "images"),
        ("admissionPolicies.images={registry.example/}", "images"),
        ("admissionPolicies.secrets={*}", "secrets"),
        ("helmTest.url=ru-toxicity-serve.default.svc", "url"),
        ("helmTest.text=", "text"),
        ("imagePullSecrets={registry}", "imagePullSecrets"),
    ],
)
def test_schema_refuses(render: Render, assignment: str, named: str) -> None:
    with pytest.raises(CommandFailed, match=named):
        render("--set", assignment)
