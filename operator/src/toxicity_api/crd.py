"""Generate the CustomResourceDefinition from the pydantic models.

`python -m toxicity_api.crd` prints it, `--write PATH...` writes it, and `--check PATH...` fails if a copy is stale.
pydantic's JSON schema becomes a Kubernetes structural schema: references are inlined, `null` alternatives are removed,
constants become enums, and exclusive bounds get their OpenAPI 3.0 form. An object with a default inside gets a default.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_api.spec import ToxicityModelSpec
from toxicity_api.status import ToxicityModelStatus

Schema = dict[str, Any]

NAME_LIMIT = 40
"""Maximum length of a resource's name in characters. The names of its children add a stage and a fingerprint."""

STRING_LIMIT = 4096
LIST_LIMIT = 256
QUANTITY_LIMIT = 64
NUMBER = r"(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
QUANTITY_PATTERN = rf"^{NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE]{NUMBER}))?$"
RULES = "x-kubernetes-validations"
VERBATIM = "x-kubernetes-preserve-unknown-fields"
KEPT = (
    "description", "type", "enum", "default", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", RULES,
)  # fmt: skip
LIST_KEYS = {
    "conditions": "type", "buckets": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath",
    "folders": "name", "testSets": "name",
}  # fmt: skip
"""Lists of objects that are maps with this key, so that server-side apply merges them per item."""

SCALE = {
    "specReplicasPath": ".spec.serving.replicas",
    "statusReplicasPath": ".status.serving.replicas",
    "labelSelectorPath": ".status.serving.selector",
}
"""Paths for `kubectl scale` and autoscalers. Without spec.serving.replicas the API server returns no scale."""

NOT_SEEN = {"observedGeneration": -1}
"""Status of a resource before the first reconcile. Without it, kstatus takes one without conditions for done."""

COLUMNS: list[tuple[str, str, str, int]] = [
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Stage", "string", ".status.stage", 0),
    ("F1", "number", ".status.training.f1", 0),
    ("F1-Quant", "number", ".status.quantization.f1", 0),
    ("Replicas", "integer", ".status.serving.readyReplicas", 0),
    ("RPS", "number", ".status.loadTest.actualRps", 0),
    ("P95", "number", ".status.loadTest.p95Seconds", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("F1-Served", "number", ".status.evaluation.f1", 1),
    ("Threshold", "number", ".status.evaluation.threshold", 1),
    ("Quantization", "string", ".status.quantization.backend", 1),
    ("Revision", "string", ".status.serving.modelFingerprint", 1),
    ("URL", "string", ".status.url", 1),
]


class _WithFactories(GenerateJsonSchema):
    """Include the defaults that a factory makes. The API server needs them to apply nested defaults."""

    def default_schema(self, schema: Any) -> Schema:
        result: Schema = {**super().default_schema(schema)}
        if "default_factory" in schema:
            value = schema["default_factory"]()
            result = {**result, "default": {} if isinstance(value, BaseModel) else value}
        return result


def _resolve(node: Schema, definitions: Schema) -> Schema:
    """Replace the reference and the optional `anyOf` of `node` by the schemas they stand for."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return _resolve({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        present = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(present) != 1:
            raise ValueError(f"a union is not a structural schema: {node}")
        rest = {k: v for k, v in node.items() if k != "anyOf" and not (k == "default" and v is None)}
        return _resolve({**present[0], **rest}, definitions)
    return node


def _int_or_string(node: Schema) -> Schema:
    """Build the schema of a quantity, or of another union with a CEL rule."""
    kept: Schema = {key: node[key] for key in ("description", "default", RULES) if key in node}
    bound: Schema = (
        {"maxLength": STRING_LIMIT}
        if RULES in node
        else {"pattern": QUANTITY_PATTERN, "maxLength": QUANTITY_LIMIT}
    )
    alternatives = [{"type": "integer"}, {"type": "string"}]
    return {**kept, "anyOf": alternatives, **bound, "x-kubernetes-int-or-string": True}


def _bounds(node: Schema) -> Schema:
    """Return OpenAPI 3.0 bounds, and the maximum lengths from which the API server estimates the cost of a CEL rule."""
    result: Schema = {}
    for side, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in node:
            result |= {side: node[exclusive], exclusive: True}
    if node.get("type") == "string" and "enum" not in node:
        result["maxLength"] = node.get("maxLength", STRING_LIMIT)
    if node.get("type") == "array":
        result["maxItems"] = node.get("maxItems", LIST_LIMIT)
    return result


def _structural(node: Schema, definitions: Schema, *, defaults: bool, name: str = "") -> Schema:
    node = _resolve(node, definitions)
    if node.get("x-kubernetes-int-or-string"):
        return _int_or_string(node)
    if node.get(VERBATIM):
        kept: Schema = {"description": node["description"]} if "description" in node else {}
        return {**kept, "type": "object", VERBATIM: True}
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
    result = {key: node[key] for key in KEPT if key in node} | _bounds(node)
    if node.get("type") == "object":
        result |= _object(node, definitions, defaults=defaults)
    if node.get("type") == "array":
        result["items"] = _structural(node["items"], definitions, defaults=defaults)
        if name in LIST_KEYS:
            result |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [LIST_KEYS[name]]}
    if not defaults or _is_idle_default(result):
        result.pop("default", None)
    return result


def _object(node: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    if "properties" not in node:
        values = _structural(node["additionalProperties"], definitions, defaults=defaults)
        return {"additionalProperties": values, "maxProperties": node.get("maxProperties", LIST_LIMIT)}
    properties = {
        key: _with_default_described(_structural(value, definitions, defaults=defaults, name=key))
        for key, value in node["properties"].items()
    }
    return {"properties": properties} | ({"required": node["required"]} if node.get("required") else {})


def _with_default_described(schema: Schema) -> Schema:
    """Name the default in the description, since some versions of `kubectl explain` do not show it."""
    default = schema.get("default")
    if default in (None, "") or isinstance(default, dict):
        return schema
    text = f"{schema['description']} Defaults to {json.dumps(default, ensure_ascii=False)}."
    return {**schema, "description": text}


def _is_idle_default(schema: Schema) -> bool:
    """Whether the default has no effect: null, an empty list or map, or an object without a default inside."""
    inner = any("default" in value for value in schema.get("properties", {}).values())
    return "default" in schema and schema["default"] in (None, {}, []) and not inner


def structural_schema(model: type[BaseModel], *, defaults: bool) -> Schema:
    """Return the Kubernetes structural schema of a document, with or without the defaults of its fields."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    return _structural(schema, schema.get("$defs", {}), defaults=defaults)


def _root_schema() -> Schema:
    rule = (
        f"self.metadata.name.size() <= {NAME_LIMIT} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    message = (
        f"metadata.name must have at most {NAME_LIMIT} characters: lowercase letters, digits and '-'."
        " It must start with a letter and end with a letter or a digit"
    )
    text = {"type": "string"}
    return {
        "description": "ToxicityModel is a Russian toxicity classifier, from labelled comments to served traffic.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": {"type": "object"},
            "spec": structural_schema(ToxicityModelSpec, defaults=True),
            "status": structural_schema(ToxicityModelStatus, defaults=False) | {"default": NOT_SEEN},
        },
        RULES: [{"rule": rule, "message": message}],
    }


def _column(name: str, kind: str, path: str, priority: int) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})


def build_crd() -> Schema:
    """Return the CustomResourceDefinition as data."""
    version = {
        "name": API_VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root_schema()},
        "subresources": {"status": {}, "scale": SCALE},
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["toxm"],
        "categories": ["toxicity"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{API_GROUP}"},
        "spec": {"group": API_GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def render_crd() -> str:
    """Return the CustomResourceDefinition as YAML. Equal models give equal bytes."""
    import yaml

    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(build_crd(), Dumper=NoAliases, sort_keys=False, allow_unicode=True, width=100)
    return f"# Generated by `make generate` from toxicity_api. Do not edit.\n{text}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, write or check the CRD. Return the exit code, which is 1 if a checked copy is stale."""
    parser = argparse.ArgumentParser(prog="python -m toxicity_api.crd", description=__doc__)
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="PATH", help="files to write")
    parser.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="PATH", help="files that must be up to date"
    )
    options = parser.parse_args(arguments)
    text = render_crd()
    if not options.write and not options.check:
        sys.stdout.write(text)
    for path in options.write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    stale = [path for path in options.check if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path} is stale: run `make generate`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
