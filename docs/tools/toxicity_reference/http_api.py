"""The OpenAPI document of the service, and a page of its routes and schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from toxicity_api.stage_config import ServingConfig
from toxicity_reference.markdown import GENERATED, code, prose, table
from toxicity_serving.engine.protocol import LoadedModel
from toxicity_serving.http.app import create_app

Schema = Mapping[str, Any]

INTRODUCTION = """
# OpenAPI

A running service has this document at `/openapi.json` and a page to try its routes at `/docs`. The file is
[openapi.json](openapi.json). [HTTP API](http-api.md) explains the routes with examples.

## Routes

"""
CONFIG = {
    "model": "ru-toxicity",
    "fingerprint": "",
    "modelDir": "",
    "promptTemplate": "{text}",
    "labels": {"toxic": "да", "nonToxic": "нет"},
    "threshold": 0.5,
    "baseModel": "",
    "maxModelLen": 512,
}
"""The document depends on the model's name alone."""


class _NoEngine:
    """An engine that is never started: the routes are known without one."""

    async def start(self) -> LoadedModel:
        raise NotImplementedError

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        raise NotImplementedError

    async def check(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError


@cache
def _document() -> dict[str, Any]:
    app = create_app(ServingConfig.model_validate(CONFIG), _NoEngine(), token="-")
    return app.openapi()


def openapi_json() -> str:
    """`reference/openapi.json`."""
    return json.dumps(_document(), ensure_ascii=False, indent=1) + "\n"


def openapi_page() -> str:
    """`reference/openapi.md`."""
    document = _document()
    routes = table(["route", "what it does", "request body", "statuses"], _routes(document["paths"]))
    return "".join(
        [GENERATED, INTRODUCTION, routes, "\n## Schemas\n", *_schemas(document["components"]["schemas"])]
    )


def _routes(paths: Schema) -> Iterator[list[str]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            body = (
                operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            )
            statuses = ", ".join(operation["responses"])
            text = operation.get("description") or operation["summary"]
            yield [code(f"{method.upper()} {path}"), prose(text.split("\n\n")[0]), _type(body), statuses]


def _schemas(schemas: Schema) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"\n### {name}\n\n"
        if schema.get("description"):
            yield prose(schema["description"]) + "\n\n"
        if "properties" not in schema:
            yield f"Type: {_type(schema)}\n"
            continue
        required = set(schema.get("required", []))
        yield table(
            ["field", "type", "required", "description"],
            [
                [
                    code(field),
                    _type(inner),
                    "yes" if field in required else "no",
                    prose(inner.get("description", "")),
                ]
                for field, inner in schema["properties"].items()
            ],
        )


def _type(schema: Schema) -> str:
    """What a value may be, in words, with links to the schemas of this page."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(option) for option in schema[key]))
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any" if schema else ""))
