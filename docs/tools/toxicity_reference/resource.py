"""The page of ToxicityModel's fields, from the schema of the CustomResourceDefinition."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from toxicity_api.crd import COLUMNS, build_crd
from toxicity_reference.markdown import GENERATED, code, prose, table

Schema = Mapping[str, Any]

INTRODUCTION = """
# ToxicityModel

API version `toxicity.dev/v1alpha1`, kind `ToxicityModel`, short name `toxm`, namespaced.
`kubectl explain` prints the same text:

    kubectl explain toxicitymodel.spec --recursive
    kubectl explain toxicitymodel.spec.training.lora

The three files in `manifests/samples/` are a minimal resource, one for two CPU cores and one for a GPU.
"""

BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches `{}`",
}
EXCLUSIVE = {"minimum": "> {}", "maximum": "< {}"}
IMPLICIT = {"maxItems": 256}
"""Limits that the generator of the schema adds to every list."""


def resource_page() -> str:
    """`reference/toxicitymodel.md`."""
    root = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = [GENERATED, INTRODUCTION, _columns()]
    for name in ("spec", "status"):
        parts += [f"\n## {name}\n", *_sections(name, root["properties"][name])]
    return "".join(parts)


def _columns() -> str:
    rows = [[name, code(path), "wide only" if priority else "always"] for name, _, path, priority in COLUMNS]
    title = "\n## Columns of kubectl get\n\nThe last ones are shown by `kubectl get toxicitymodel -o wide`.\n\n"
    return title + table(["column", "field", "shown"], rows)


def _sections(path: str, schema: Schema) -> Iterator[str]:
    """One table for each object below `path`, parents first."""
    if path.count("."):
        yield f"\n### {path}\n"
    if schema.get("description"):
        yield f"\n{_sentence(path.rsplit('.', 1)[-1], schema['description'])}\n"
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"\nRule: {prose(rule['message'])}.\n"
    required = set(schema.get("required", []))
    rows = [_row(name, field, required=name in required) for name, field in schema["properties"].items()]
    yield "\n" + table(["field", "type", "default", "bounds", "description"], rows)
    for name, field in schema["properties"].items():
        for suffix, inner in _objects(field):
            yield from _sections(f"{path}.{name}{suffix}", inner)


def _objects(field: Schema) -> Iterator[tuple[str, Schema]]:
    """Objects with fields that are the value of `field`, its items or the values of its map."""
    if "properties" in field:
        yield "", field
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        inner = field.get(key)
        if isinstance(inner, Mapping) and "properties" in inner:
            yield suffix, inner


def _row(name: str, field: Schema, *, required: bool) -> list[str]:
    default = "required" if required else _default(field)
    return [code(name), _type(field), default, _bounds(field), _sentence(name, field.get("description", ""))]


def _default(field: Schema) -> str:
    if "default" not in field or field["default"] == {}:
        return ""
    return code(json.dumps(field["default"], ensure_ascii=False))


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = str(field["type"])
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if isinstance(field.get("additionalProperties"), Mapping):
        return f"map of {_type(field['additionalProperties'])}"
    return kind


def _bounds(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return ""
    found = []
    for key, words in BOUNDS.items():
        if key in field and field[key] != IMPLICIT.get(key):
            exclusive = field.get(f"exclusive{key.capitalize()}", False)
            found.append((EXCLUSIVE[key] if exclusive else words).format(field[key]))
    return ", ".join(found)


def _sentence(name: str, text: str) -> str:
    """The description without the field's name in front, which the table already has."""
    rest = text.removeprefix(f"{name}: ")
    return prose(rest if rest == text else rest[:1].upper() + rest[1:])
