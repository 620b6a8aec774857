"""Request and response bodies of POST /v1/moderations, as OpenAI's clients send and read them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from toxicity_serving.http.schemas import MAX_CHARACTERS, MAX_TEXTS, RequestBody, Text

Category = Literal[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
]
CATEGORIES: tuple[Category, ...] = get_args(Category)
SCORED: Category = "harassment"
"""The category that carries the toxicity score. The model does not score the others."""

FORM_PREFIX = "<"
"""Prefix of the tags for the three forms of `input`. pydantic adds the tag to the location of an error."""
_STRING, _STRINGS, _PARTS = "<string>", "<strings>", "<parts>"


def _refuse_images(kind: object) -> object:
    if kind == "image_url":
        raise PydanticCustomError("image_not_supported", "images are not supported; this model classifies text")
    return kind


class TextPart(RequestBody):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Annotated[Literal["text"], BeforeValidator(_refuse_images)] = Field(description="`text`; no images")
    text: Text


def _short_enough(parts: list[TextPart]) -> list[TextPart]:
    if sum(len(part.text) + 1 for part in parts) > MAX_CHARACTERS + 1:
        raise PydanticCustomError(
            "string_too_long", "the text parts together exceed {limit} characters", {"limit": MAX_CHARACTERS}
        )
    return parts


def _form(value: object) -> str | None:
    """Return the tag of the form that `input` has, so that an error describes only that form."""
    if isinstance(value, list):
        return _PARTS if value and isinstance(value[0], dict | TextPart) else _STRINGS
    return _STRING if isinstance(value, str) else None


# fail_fast: the response contains only the first error
_Several = Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)
ModerationInput = Annotated[
    Annotated[Text, Tag(_STRING)]
    | Annotated[list[Text], _Several, Tag(_STRINGS)]
    | Annotated[list[TextPart], _Several, AfterValidator(_short_enough), Tag(_PARTS)],
    Discriminator(
        _form,
        custom_error_type="invalid_type",
        custom_error_message="expected a string, an array of strings or an array of text parts",
    ),
]


class ModerationRequest(RequestBody):
    """One text, an array of texts, or the text parts of one text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"input": ["спасибо за рецепт", "ты тупой урод"]}]},
    )

    input: ModerationInput = Field(description="texts to classify; text parts are joined by line feeds")
    model: str | None = Field(None, max_length=200, description="echoed in the response; has no other effect")

    @property
    def texts(self) -> list[str]:
        """The texts in order. Text parts form one text."""
        if isinstance(self.input, str):
            return [self.input]
        parts = [item.text for item in self.input if isinstance(item, TextPart)]
        return ["\n".join(parts)] if parts else [item for item in self.input if isinstance(item, str)]


class ModerationResult(BaseModel):
    flagged: bool = Field(description="whether the score reaches the model's threshold")
    categories: dict[Category, bool] = Field(description="`harassment` is `flagged`; all others are false")
    category_scores: dict[Category, float] = Field(
        description="`harassment` is p(toxic); all others are 0 because the model does not score them"
    )
    category_applied_input_types: dict[Category, list[Literal["text"]]] = Field(
        description="[text] for `harassment`; empty for the others, which are not scored"
    )

    @classmethod
    def from_score(cls, score: float, threshold: float) -> Self:
        """Build the result of one text with p(toxic) as the score of `harassment`."""
        flagged = score >= threshold
        return cls(
            flagged=flagged,
            categories={category: category == SCORED and flagged for category in CATEGORIES},
            category_scores={category: score if category == SCORED else 0.0 for category in CATEGORIES},
            category_applied_input_types={
                category: ["text"] if category == SCORED else [] for category in CATEGORIES
            },
        )


class ModerationResponse(BaseModel):
    id: str = Field(examples=["modr-0c5a2b"])
    model: str = Field(description="the request's `model`; when unset, the ToxicityModel's name")
    results: list[ModerationResult] = Field(description="one per text, in the order of the request")


class OpenAIError(BaseModel):
    message: str
    type: Literal["invalid_request_error", "requests", "server_error"]
    param: str | None = Field(description="the invalid field, such as input[0]")
    code: str | None


class OpenAIErrorResponse(BaseModel):
    """The body of every response with a status outside 2xx."""

    error: OpenAIError
