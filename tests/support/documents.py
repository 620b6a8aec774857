"""Documents of every class that crosses a process border, made from the class alone, and news from another version."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from toxicity_api.base import Document

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for part in ("operator", "training-job", "serving", "loadtest") for path in (ROOT / part).glob("src")
)
DEFINES_DOCUMENT = re.compile(r"^class \w+\((?:\w+\.)?Document\)", re.MULTILINE)

WORDS = (
    "word",
    "owner/name",
    "/absolute",
    "http://host:9090",
    "{text}",
    "8Gi",
    "0 3 * * *",
    "10.0.0.0/8",
    "s3://bucket/prefix",
    "http://127.0.0.1:7070",
    "0" * 64,
)
NUMBERS = (64, 4, 1024, 0.25)

Place = tuple[str | int, ...]
"""Keys that lead to a part of a document."""


def document_classes() -> list[type[Document]]:
    """Every subclass of Document in the packages by name, but for the bodies of HTTP, which are versioned by path."""
    for source in SOURCES:
        for path in source.rglob("*.py"):
            if not path.stem.endswith("schemas") and DEFINES_DOCUMENT.search(path.read_text(encoding="utf-8")):
                importlib.import_module(
                    ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
                )
    return sorted(_below(Document), key=name_of)


def _below(kind: type[Document]) -> set[type[Document]]:
    found = {
        below
        for below in kind.__subclasses__()
        if below.__module__.startswith("toxicity_") and not below.__module__.endswith("schemas")
    }
    return found.union(*map(_below, found))


def name_of(kind: type[Document]) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def filled(kind: Any) -> Any:
    """JSON of the type with every field set, down to the last one."""
    return next(iter(_candidates(kind)))


def _candidates(kind: Any) -> Iterator[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _candidates(arguments[0])
    elif origin in (Union, UnionType):
        yield from (value for argument in arguments if argument is not NoneType for value in _candidates(argument))
    elif origin is list:
        yield from ([value] for value in _candidates(arguments[0]))
    elif origin is dict:
        yield from ({"key": value} for value in _candidates(arguments[1]))
    elif origin is Literal:
        yield from arguments
    elif isinstance(kind, type) and issubclass(kind, Document):
        yield {field.alias or name: _of_field(field) for name, field in kind.model_fields.items()}
    elif isinstance(kind, type) and issubclass(kind, Enum):
        yield from (item.value for item in kind)
    elif kind in (str, Path):
        yield from WORDS
    elif kind is bool:
        yield True
    else:
        yield from (number for number in NUMBERS if kind is float or isinstance(number, int))


def _of_field(field: FieldInfo) -> Any:
    """The first value that the field's own bounds allow."""
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    found = [value for value in _candidates(field.annotation) if _is_allowed(kind, value)]
    assert found, f"add a value that {field} allows"
    return found[0]


def _is_allowed(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def objects(part: Any, place: Place = ()) -> Iterator[Place]:
    """Where the objects with fields are, the outermost first; a map of a person's own keys is none."""
    if isinstance(part, dict):
        if set(part) != {"key"}:
            yield place
        for key, below in part.items():
            yield from objects(below, (*place, key))
    if isinstance(part, list):
        for index, below in enumerate(part):
            yield from objects(below, (*place, index))


def at(document: Any, place: Place) -> Any:
    """The part of the document in that place."""
    for key in place:
        document = document[key]
    return document


def with_news(document: Any, places: Iterator[Place] | list[Place], value: Any, name: str = "newerField") -> Any:
    """A copy with a field that nobody knows in each of the places."""
    newer = copy.deepcopy(document)
    for place in places:
        at(newer, place)[name] = value
    return newer
