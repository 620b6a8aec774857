"""The bodies of the HTTP interface. Requests are checked here, nowhere else; OpenAPI is generated from these."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from toxicity_api.base import Document
from toxicity_api.prompting import WINDOW_OVERLAP_TOKENS
from toxicity_api.results import Metrics
from toxicity_api.spec import Labels, LongTexts

MAX_TEXTS = 64
"""Texts of one request."""

MAX_CHARACTERS = 20_000
"""Characters of one text. What becomes of shorter ones that do not fit the model, `long_texts` says."""

MAX_ERRORS = 20
"""Wrong parts that an answer names, and unknown fields that an object of a request is told of one by one."""

MAX_SHOWN = 100
"""Characters that an answer repeats of a field's name, or of another part of the request that is not a text."""

NOT_BLANK = r"\S"
"""What `_not_blank` demands, for the JSON schema."""


def shorten(value: object) -> str:
    """A part of the request as an answer can have it: short, and Unicode whatever was sent; of no string, its type."""
    text = value if isinstance(value, str) else type(value).__name__
    return text[:MAX_SHOWN].encode(errors="replace").decode()


class RequestBody(BaseModel):
    """Base of every object in a request. Many unknown fields are one error.

    pydantic makes one of each, and half a million of them fit into a body.
    """

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, body: object) -> object:
        if isinstance(body, dict):
            known = {*cls.model_fields, *(field.alias for field in cls.model_fields.values())}
            unknown = len(body) - sum(name in body for name in known)
            if unknown > MAX_ERRORS:
                raise PydanticCustomError("too_many_unknown", "{count} unknown fields", {"count": unknown})
        return body


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty_text", "the text is empty")
    return text


Text = Annotated[
    str,
    StringConstraints(strict=True, max_length=MAX_CHARACTERS),
    AfterValidator(_not_blank),
    Field(examples=["спасибо"], json_schema_extra={"pattern": NOT_BLANK}),
]


def _only(name: str, kind: str, other: str) -> JsonDict:
    """The part of a JSON schema that says that `name` is there and `other` is not."""
    return {"required": [name], "properties": {name: {"type": kind}, other: {"type": "null"}}}


class ClassifyRequest(RequestBody):
    """One text or a batch of them, and optionally another threshold than the model's own."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"texts": ["спасибо за рецепт", "ты тупой урод"], "threshold": 0.8}],
            "oneOf": [_only("text", "string", "texts"), _only("texts", "array", "text")],
        },
    )

    text: Text | None = Field(None, description="one text; excludes texts")
    texts: list[Text] | None = Field(
        None, min_length=1, max_length=MAX_TEXTS, description="a batch; excludes text"
    )
    threshold: float | None = Field(
        None, ge=0, le=1, strict=True, description="score from which a text is toxic; unset means the model's own"
    )
    long_texts: LongTexts | None = Field(
        None,
        description="of a text that does not fit the model: the highest score of overlapping windows (window), or of"
        " its beginning (truncate); unset means the model's own setting",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("set exactly one of text and texts")
        return self

    @property
    def batch(self) -> list[str]:
        """The texts in order, one for `text`."""
        return self.texts if self.texts is not None else [self.text or ""]


class TextScore(BaseModel):
    score: float = Field(ge=0, le=1, description="p(toxic)")
    toxic: bool = Field(description="whether the score reaches the threshold")
    truncated: bool = Field(description="whether the end of the text was cut to fit the model")
    windows: int = Field(ge=1, description="windows that the text was scored in; 1 when it fits the model")


class ClassifyResponse(BaseModel):
    model: str = Field(description="name of the ToxicityModel")
    threshold: float = Field(description="threshold that was applied")
    results: list[TextScore] = Field(description="one per text, in the order of the request")


class FieldError(BaseModel):
    field: str = Field(description="the part of the request that is wrong, such as texts.0")
    message: str


class ErrorResponse(BaseModel):
    """Every answer outside 2xx."""

    message: str = Field(description="what is wrong, in one line")
    errors: list[FieldError] = Field(default_factory=list, description="set on 422")


class ModelCard(Document):
    """What is served, from data to engine."""

    model: str
    base_model: str
    fingerprint: str = Field(description="fingerprint of the stage that made the weights")
    threshold: float
    metrics: Metrics | None
    prompt_template: str
    labels: Labels
    max_model_len: int
    max_texts: int = MAX_TEXTS
    max_characters: int = MAX_CHARACTERS
    long_texts: LongTexts = Field(description="what becomes of a text that is longer than maxModelLen")
    window_overlap_tokens: int = WINDOW_OVERLAP_TOKENS
    queue_limit: int = Field(description="texts that may wait beyond what the engine batches")
    weights: str = Field(description="native-4bit, decompressed (4 bit on disk, unpacked at start) or unquantized")
    dtype: str = Field(description="type the engine computes in")
    verified: bool = Field(description="whether the weights were checked against their checksums at the start")
    engine: str = Field(description="engine and version")


class Readiness(BaseModel):
    state: str
    reason: str
