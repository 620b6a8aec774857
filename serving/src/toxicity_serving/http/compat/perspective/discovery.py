"""The discovery document: Google's client libraries read the API's URL and methods from it before the first call.

It describes what this service has of commentanalyzer v1alpha1, in the format of Google's API discovery service.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, HTTPException, Request

NAME, VERSION = "commentanalyzer", "v1alpha1"
DISCOVERY_PATHS = ("/$discovery/rest", f"/discovery/v1/apis/{NAME}/{VERSION}/rest")
"""The paths of the API's own host and of Google's central service."""

ANALYZE_PATH = f"/{VERSION}/comments:analyze"
SUGGEST_PATH = f"/{VERSION}/comments:suggestscore"

_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")

router = APIRouter(include_in_schema=False)

_STRING, _BOOLEAN = {"type": "string"}, {"type": "boolean"}
_NUMBER, _INTEGER = {"type": "number", "format": "float"}, {"type": "integer", "format": "int32"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _map(values: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"$ref": values}}


def _of(name: str) -> dict[str, Any]:
    return {"$ref": name}


_SCHEMAS: dict[str, dict[str, Any]] = {
    "TextEntry": {"text": _STRING, "type": _STRING},
    "ArticleAndParentComment": {"article": _of("TextEntry"), "parentComment": _of("TextEntry")},
    "Context": {
        "entries": _list(_of("TextEntry")),
        "articleAndParentComment": _of("ArticleAndParentComment"),
    },
    "AttributeParameters": {"scoreType": _STRING, "scoreThreshold": _NUMBER},
    "AnalyzeCommentRequest": {
        "comment": _of("TextEntry"),
        "requestedAttributes": _map("AttributeParameters"),
        "languages": _list(_STRING),
        "context": _of("Context"),
        "spanAnnotations": _BOOLEAN,
        "doNotStore": _BOOLEAN,
        "clientToken": _STRING,
        "sessionId": _STRING,
        "communityId": _STRING,
    },
    "Score": {"value": _NUMBER, "type": _STRING},
    "SpanScore": {"begin": _INTEGER, "end": _INTEGER, "score": _of("Score")},
    "AttributeScores": {"summaryScore": _of("Score"), "spanScores": _list(_of("SpanScore"))},
    "AnalyzeCommentResponse": {
        "attributeScores": _map("AttributeScores"),
        "languages": _list(_STRING),
        "detectedLanguages": _list(_STRING),
        "clientToken": _STRING,
    },
    "SuggestCommentScoreRequest": {
        "comment": _of("TextEntry"),
        "attributeScores": _map("AttributeScores"),
        "languages": _list(_STRING),
        "context": _of("Context"),
        "clientToken": _STRING,
        "sessionId": _STRING,
        "communityId": _STRING,
    },
    "SuggestCommentScoreResponse": {
        "clientToken": _STRING,
        "requestedLanguages": _list(_STRING),
        "detectedLanguages": _list(_STRING),
    },
}
"""The fields of each message."""

_PARAMETERS = {
    "key": "the token of serving.apiTokenSecretName, if one is set",
    "alt": "json, the only format",
    "fields": "accepted without effect",
    "prettyPrint": "accepted without effect",
    "quotaUser": "accepted without effect",
}


def build_discovery(root_url: str) -> dict[str, Any]:
    """Return the document for clients that reach the service at `root_url`, which ends with a slash."""
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"{NAME}:{VERSION}",
        "name": NAME,
        "version": VERSION,
        "title": "Perspective Comment Analyzer API",
        "description": "Scores of a Russian toxicity classifier, in the format of the Perspective API.",
        "protocol": "rest",
        "rootUrl": root_url,
        "servicePath": "",
        "baseUrl": root_url,
        "basePath": "",
        "batchPath": "batch",
        "parameters": {
            name: {"type": "string", "location": "query", "description": text}
            for name, text in _PARAMETERS.items()
        },
        "resources": {
            "comments": {
                "methods": {
                    "analyze": _method(ANALYZE_PATH, "AnalyzeComment", "Scores a comment."),
                    "suggestscore": _method(
                        SUGGEST_PATH, "SuggestCommentScore", "Accepts a score; stores nothing."
                    ),
                }
            }
        },
        "schemas": {
            name: {"id": name, "type": "object", "properties": properties} for name, properties in _SCHEMAS.items()
        },
    }


def _method(path: str, message: str, description: str) -> dict[str, Any]:
    return {
        "id": f"{NAME}.comments.{path.rpartition(':')[2]}",
        "path": path.removeprefix("/"),
        "flatPath": path.removeprefix("/"),
        "httpMethod": "POST",
        "description": description,
        "parameters": {},
        "parameterOrder": [],
        "request": _of(f"{message}Request"),
        "response": _of(f"{message}Response"),
    }


async def discovery(request: Request) -> dict[str, Any]:
    """Return the document with the URL that the client used. The scheme comes from serving.http.trustedProxies."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise HTTPException(400, "host: expected a host name or an address, with or without a port")
    return build_discovery(f"{request.url.scheme}://{host}/")


for _path in DISCOVERY_PATHS:
    router.get(_path)(discovery)
