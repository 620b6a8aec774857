"""The page of the chart's values, from values.yaml (defaults, comments) and values.schema.json (types, bounds)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from toxicity_reference.markdown import GENERATED, code, prose, table

CHART = Path(__file__).parents[3] / "helm" / "toxicity-operator"
NOTES = """The chart's schema rejects a key that is not in this table, at every level, except below `global`, where a
parent chart can have other keys.

An image has the keys `registry`, `repository`, `tag` and `digest`. An empty tag means the chart's `appVersion`, unless
there is a digest. A full reference as one string is accepted too; `global.imageRegistry` does not change it.

"""
INTRODUCTION = f"""
# Chart values

The values of `helm/toxicity-operator`. {NOTES}"""
_KEY = re.compile(r"( *)([A-Za-z]\w*):")

Schema = Mapping[str, Any]


def values_page() -> str:
    """`docs/reference/chart-values.md`."""
    return GENERATED + INTRODUCTION + values_table()


def values_table() -> str:
    """A row for every value: its default, what is allowed, and its description."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    comments = _comments(text)
    rows = [
        [
            code(path),
            code(json.dumps(value, ensure_ascii=False)),
            _allowed(field),
            prose(_description(path, field, comments)),
        ]
        for path, value, field in _leaves("", yaml.safe_load(text), schema, schema["definitions"])
    ]
    return table(["value", "default", "allowed", "description"], rows)


def _leaves(
    prefix: str, values: Mapping[str, Any], schema: Schema, shared: Schema
) -> Iterator[tuple[str, Any, Schema]]:
    """Path, default and schema of every value that is not always an object with keys of its own."""
    for key, value in values.items():
        path, field = prefix + key, _resolve(schema["properties"][key], shared)
        if isinstance(value, Mapping) and value and field.get("type") == "object" and "properties" in field:
            yield from _leaves(f"{path}.", value, field, shared)
        else:
            yield path, value, field


def _resolve(field: Schema, shared: Schema) -> Schema:
    reference = field.get("$ref")
    return {**shared[reference.rsplit("/", 1)[-1]], **field} if reference else field


def _comments(text: str) -> dict[str, str]:
    """The comment above each key, by the key's path; a blank line or a key ends a comment."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().lstrip("# "))
        elif match := _KEY.match(line):
            depth = len(match[1])
            parents = [parent for parent in parents if parent[0] < depth] + [(depth, match[2])]
            found[".".join(name for _, name in parents)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def _description(path: str, field: Schema, comments: Mapping[str, str]) -> str:
    return comments.get(path) or str(field.get("description", ""))


def _allowed(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    kind = field.get("type", "")
    bounds = [f"≥ {field['minimum']}"] if "minimum" in field else []
    bounds += [f"≤ {field['maximum']}"] if "maximum" in field else []
    kinds = kind if isinstance(kind, str) else " or ".join(kind)
    return ", ".join([kinds, *bounds])
