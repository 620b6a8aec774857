"""A POST route that reads JSON with pydantic alone, in little time and memory, and documents itself like any other.

FastAPI would parse the body into Python objects, resolve the dependencies and validate the response. For requests
with one text this took most of the time outside the engine.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from toxicity_serving.http.record import current_record

MAX_VALUES = 2000
"""Maximum number of JSON values in a body: a few per text.

Small values take up to a hundred times their size while they are parsed, so the bytes alone do not limit the memory.
"""

SMALL_BODY = 1 << 14
"""Size in bytes up to which the values of a body need not be counted."""

# a string, or the rest of a body that ends within one, so that each byte is visited once
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_JSON_TYPE = re.compile(r"application/([a-z0-9.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRoute(APIRoute):
    """Calls the endpoint with `body`, `service` and `response`, the only parameters that it may have."""

    def get_route_handler(self) -> Handler:
        """Return the handler that replaces FastAPI's."""
        model: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        endpoint, response_model = self.endpoint, TypeAdapter(self.response_model)
        options: dict[str, Any] = {
            "by_alias": self.response_model_by_alias,
            "exclude_none": self.response_model_exclude_none,
        }

        async def handle(request: Request) -> Response:
            _check_content_type(request.headers)
            body = parse_json(model, await _take_body(request))
            response = Response(media_type="application/json")
            result = await endpoint(body=body, service=request.app.state.service, response=response)
            response.body = response_model.dump_json(result, **options)
            response.headers["content-length"] = str(len(response.body))
            return response

        return handle


async def _take_body(request: Request) -> bytes:
    """Return the body without a reference that would keep it in memory until the response."""
    record = current_record.get()
    if record is not None and record.body is not None:
        body, record.body = record.body, None
        return body
    return await request.body()


def _check_content_type(headers: Mapping[str, str]) -> None:
    """Accept JSON and a missing header. Raises HTTPException with 415."""
    content_type = headers.get("content-type", "")
    if content_type and not _JSON_TYPE.fullmatch(content_type):
        raise HTTPException(415, "content-type: expected application/json; send this header with a JSON body")


def parse_json(model: type[BaseModel], body: bytes) -> BaseModel:
    """Parse and validate a body. Raises RequestValidationError with locations that begin with "body"."""
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise _invalid("missing_body", "the body is empty; send a JSON object")
    if len(body) > SMALL_BODY and count_values(body) > MAX_VALUES:
        raise _invalid("too_many_values", f"the body has more than {MAX_VALUES} values; send fewer")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in items]) from None


def _invalid(kind: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body",), "type": kind, "msg": message}])


def count_values(body: bytes) -> int:
    """Return an upper bound of the number of JSON values outside strings, by commas and opening brackets."""
    outside = _STRING.sub(b"", body)
    return 1 + sum(outside.count(character) for character in (b",", b"[", b"{"))
