"""Request and response bodies of the native routes. They validate requests and define the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from toxicity_api.base import Document
from toxicity_api.normal_form.form import VISIBLE_PATTERN, is_blank
from toxicity_api.prompting import WINDOW_OVERLAP_TOKENS
from toxicity_api.results import Metrics
from toxicity_api.spec import Labels, LongTexts
from toxicity_serving.sentences import MAX_SENTENCES

MAX_TEXTS = 64
"""Maximum number of texts in a request."""

MAX_CHARACTERS = 20_000
"""Maximum length of a text in characters. `long_texts` applies to shorter texts that exceed the model's window."""

MAX_ERRORS = 20
"""Maximum number of invalid fields that a response names, and of unknown fields that are reported one by one."""

MAX_SHOWN = 100
"""Maximum number of characters that a response quotes from the request, for example of a field's name."""


def shorten(value: object) -> str:
    """Shorten a part of the request for a response: valid Unicode of limited length, or the type of a non-string."""
    text = value if isinstance(value, str) else type(value).__name__
    return text[:MAX_SHOWN].encode(errors="replace").decode()


class RequestBody(BaseModel):
    """Base of every object in a request. More than MAX_ERRORS unknown fields are reported as one error.

    pydantic reports each unknown field, and a body can contain half a million of them.
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
    if is_blank(text):
        raise PydanticCustomError("empty_text", "the text has no visible character")
    return text


Text = Annotated[
    str,
    StringConstraints(strict=True, max_length=MAX_CHARACTERS),
    AfterValidator(_not_blank),
    Field(examples=["спасибо"], json_schema_extra={"pattern": VISIBLE_PATTERN}),
]


def _only(name: str, kind: str, other: str) -> JsonDict:
    """Return a JSON schema that requires the field `name` and forbids the field `other`."""
    return {"required": [name], "properties": {name: {"type": kind}, other: {"type": "null"}}}


class ClassifyRequest(RequestBody):
    """One text or a batch of texts, optionally with a different threshold."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"texts": ["спасибо за рецепт", "ты тупой урод"], "threshold": 0.8}],
            "oneOf": [_only("text", "string", "texts"), _only("texts", "array", "text")],
        },
    )

    text: Text | None = Field(None, description="one text; mutually exclusive with texts")
    texts: list[Text] | None = Field(
        None, min_length=1, max_length=MAX_TEXTS, description="a batch; mutually exclusive with text"
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        strict=True,
        description="lowest score of a toxic text; unset means the model's threshold",
    )
    long_texts: LongTexts | None = Field(
        None,
        description="how to score a text whose prompt exceeds maxModelLen tokens: window takes the highest score of"
        " overlapping windows, truncate scores the beginning; unset means the model's setting",
    )

    sentences: bool = Field(
        False, strict=True, description=f"also score each sentence; at most {MAX_SENTENCES} in a request"
    )
    check_language: bool = Field(False, strict=True, description="also say whether each text is Russian")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("set exactly one of text and texts")
        return self

    @property
    def batch(self) -> list[str]:
        """The texts in order; `text` is a batch of one."""
        return self.texts if self.texts is not None else [self.text or ""]


class SentenceScore(BaseModel):
    begin: int = Field(ge=0, description="position of the first character in the text, in Unicode code points")
    end: int = Field(ge=0, description="position after the last character")
    score: float = Field(ge=0, le=1, description="p(toxic) of the sentence alone")
    toxic: bool = Field(description="whether the score reaches the threshold")


class TextScore(BaseModel):
    score: float = Field(ge=0, le=1, description="p(toxic)")
    toxic: bool = Field(description="whether the score reaches the threshold")
    truncated: bool = Field(description="whether the end of the text was cut to fit the model")
    windows: int = Field(
        ge=1, description="number of windows that the text was scored in; 1 when it fits the model"
    )
    sentences: list[SentenceScore] | None = Field(None, description="set if the request has sentences")
    russian: bool | None = Field(
        None,
        description="set if the request has check_language; false if letters or words show another language, whose"
        " score means nothing",
    )


class ClassifyResponse(BaseModel):
    model: str = Field(description="name of the ToxicityModel")
    threshold: float = Field(description="the threshold used for the decision")
    results: list[TextScore] = Field(description="one per text, in the order of the request")


class FieldError(BaseModel):
    field: str = Field(description="the invalid field, such as texts.0")
    message: str


class ErrorResponse(BaseModel):
    """The body of every response with a status outside 2xx."""

    message: str = Field(description="the error in one line")
    errors: list[FieldError] = Field(default_factory=list, description="the invalid fields; set on 422 only")


class ModelCard(Document):
    """The served model: its origin, settings, limits and engine."""

    model: str
    base_model: str
    fingerprint: str = Field(description="fingerprint of the stage that wrote the weights")
    threshold: float
    metrics: Metrics | None
    prompt_template: str
    labels: Labels
    normal_form: int = Field(
        description="version of the normal form of texts that the model was trained with; 0: none"
    )
    max_model_len: int
    max_texts: int = MAX_TEXTS
    max_characters: int = MAX_CHARACTERS
    max_sentences: int = MAX_SENTENCES
    long_texts: LongTexts = Field(description="how texts whose prompt exceeds maxModelLen tokens are scored")
    window_overlap_tokens: int = WINDOW_OVERLAP_TOKENS
    queue_limit: int = Field(description="number of texts that may wait beyond the engine's batch")
    weights: str = Field(description="native-4bit, decompressed (4 bit on disk, unpacked at start) or unquantized")
    dtype: str = Field(description="data type of the engine's computation")
    verified: bool = Field(description="whether the weights were checked against their checksums at the start")
    engine: str = Field(description="engine and version")


class Readiness(BaseModel):
    state: str
    reason: str
