"""Request and response bodies of POST /v1alpha1/comments:analyze, as clients of the Perspective API use them.

Field names, messages and error types follow the API reference (github.com/conversationai/perspectiveapi, 2-api) and
the discovery document, commentanalyzer v1alpha1. Perspective's error types are used as pydantic's error types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from toxicity_api.base import Document
from toxicity_api.normal_form.form import VISIBLE_PATTERN, is_blank
from toxicity_serving.http.schemas import MAX_CHARACTERS, RequestBody, shorten
from toxicity_serving.sentences import MAX_SENTENCES, Span

Attribute = Literal[
    "TOXICITY",
    "SEVERE_TOXICITY",
    "IDENTITY_ATTACK",
    "INSULT",
    "PROFANITY",
    "THREAT",
    "TOXICITY_EXPERIMENTAL",
    "SEVERE_TOXICITY_EXPERIMENTAL",
    "IDENTITY_ATTACK_EXPERIMENTAL",
    "INSULT_EXPERIMENTAL",
    "PROFANITY_EXPERIMENTAL",
    "THREAT_EXPERIMENTAL",
    "SEXUALLY_EXPLICIT",
    "FLIRTATION",
    "ATTACK_ON_AUTHOR",
    "ATTACK_ON_COMMENTER",
    "INCOHERENT",
    "INFLAMMATORY",
    "LIKELY_TO_REJECT",
    "OBSCENE",
    "SPAM",
    "UNSUBSTANTIAL",
]
"""The attributes that Perspective documents, apart from its bridging attributes, which score English only."""

ATTRIBUTE: Attribute = "TOXICITY"
UNSCORED: frozenset[str] = frozenset(get_args(Attribute)) - {ATTRIBUTE}
"""Attributes that a client may request beside TOXICITY. The model was not trained on them."""

LANGUAGE = "ru"
UNDETERMINED = "und"
"""The code of ISO 639 for a language that is not determined."""
COMMENT_EMPTY = "COMMENT_EMPTY"
COMMENT_TOO_LONG = "COMMENT_TOO_LONG"
NO_REQUESTED_ATTRIBUTES = "NO_REQUESTED_ATTRIBUTES"
LANGUAGE_NOT_SUPPORTED = "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
INVALID_REQUEST = "INVALID_REQUEST"
ERROR_TYPES = (COMMENT_EMPTY, COMMENT_TOO_LONG, NO_REQUESTED_ATTRIBUTES, LANGUAGE_NOT_SUPPORTED, INVALID_REQUEST)
EMPTY_MESSAGE = "Comment must be non-empty."
TOO_LONG_MESSAGE = "Comment text too long."
NO_ATTRIBUTES_MESSAGE = "Missing requested_attributes"

# With a length limit, pydantic refuses lone surrogates, which the response could not encode.
ClientToken = Annotated[str, StringConstraints(max_length=1000)]
LanguageCode = Annotated[str, StringConstraints(max_length=35)]

MAX_LANGUAGES = 32
"""Maximum number of languages in a request. Perspective supports fewer than 20."""

MAX_ENTRIES = 100
"""Maximum number of texts in the context of a comment."""

Languages = Annotated[list[LanguageCode], Field(max_length=MAX_LANGUAGES, fail_fast=True)]

_EXAMPLE: JsonDict = {
    "comment": {"text": "ты тупой урод"},
    "languages": [LANGUAGE],
    "requestedAttributes": {ATTRIBUTE: {}},
    "doNotStore": True,
}


def _not_empty(text: str) -> str:
    if is_blank(text):
        raise PydanticCustomError(COMMENT_EMPTY, EMPTY_MESSAGE)
    return text


def _text_type(kind: object) -> object:
    if kind == "HTML":
        raise PydanticCustomError(INVALID_REQUEST, "Currently, only 'PLAIN_TEXT' comments are supported")
    if kind not in (None, "PLAIN_TEXT", "TEXT_TYPE_UNSPECIFIED"):
        raise PydanticCustomError(INVALID_REQUEST, "Unknown text type")
    return kind


class Body(RequestBody, Document):
    """Base of the request's objects. Unknown fields are errors, as in Perspective."""

    model_config = ConfigDict(extra="forbid")


class Comment(Body):
    text: Annotated[str, StringConstraints(max_length=MAX_CHARACTERS), AfterValidator(_not_empty)] = Field(
        description="the text to score", json_schema_extra={"pattern": VISIBLE_PATTERN}
    )
    type: Annotated[Literal["PLAIN_TEXT", "TEXT_TYPE_UNSPECIFIED"] | None, BeforeValidator(_text_type)] = None


def _score_type(kind: object) -> object:
    if kind not in (None, "PROBABILITY", "SCORE_TYPE_UNSPECIFIED"):
        message = "Requested score type {score_type} is not supported by attribute TOXICITY"
        raise PydanticCustomError(INVALID_REQUEST, message, {"score_type": shorten(kind)})
    return kind


class AttributeParameters(Body):
    score_type: Annotated[
        Literal["PROBABILITY", "SCORE_TYPE_UNSPECIFIED"] | None, BeforeValidator(_score_type)
    ] = None
    score_threshold: float | None = Field(
        None, ge=0, le=1, description="lower scores are left out of the response"
    )


def _all_known(attributes: object) -> object:
    """Refuse the first unknown attribute, where pydantic would report each."""
    for name in attributes if isinstance(attributes, dict) else ():
        if name != ATTRIBUTE and name not in UNSCORED:
            message = "Unknown requested attribute: {attribute}"
            raise PydanticCustomError(INVALID_REQUEST, message, {"attribute": shorten(name)})
    return attributes


def _known_attributes(requested: object) -> object:
    """Require TOXICITY. Perspective's other attributes may be beside it, and get no score."""
    if not isinstance(requested, dict):
        return requested
    if not requested:
        raise PydanticCustomError(NO_REQUESTED_ATTRIBUTES, NO_ATTRIBUTES_MESSAGE)
    _all_known(requested)
    if ATTRIBUTE not in requested:
        message = "Attribute {attribute} does not support request languages: ru; request TOXICITY"
        context = {"attribute": min(requested), "languages": [LANGUAGE]}
        raise PydanticCustomError(LANGUAGE_NOT_SUPPORTED, message, context)
    return requested


def _supported(languages: list[str] | None) -> list[str] | None:
    """Require Russian among the languages. Perspective scores a text in the supported languages of the list."""
    if languages and LANGUAGE not in [code.replace("_", "-").split("-")[0].lower() for code in languages]:
        raise PydanticCustomError(
            LANGUAGE_NOT_SUPPORTED,
            "Attribute TOXICITY does not support request languages: {names}",
            {"names": ", ".join(languages), "languages": languages, "attribute": ATTRIBUTE},
        )
    return languages


class TextEntry(Body):
    text: Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)] | None = None
    type: Annotated[Literal["PLAIN_TEXT", "TEXT_TYPE_UNSPECIFIED"] | None, BeforeValidator(_text_type)] = None


class ArticleAndParentComment(Body):
    article: TextEntry | None = None
    parent_comment: TextEntry | None = None


class Context(Body):
    """What the comment replies to. It has no effect."""

    model_config = ConfigDict(json_schema_extra={"maxProperties": 1})

    entries: Annotated[list[TextEntry], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    article_and_parent_comment: ArticleAndParentComment | None = None


def _one_context(context: Context | None) -> None:
    """Check the context and drop it, so that it stays in memory no longer than the parsing takes."""
    if context and len(context.model_fields_set) > 1:
        message = "Context can have either entries or article_and_parent_comment, but both fields were populated."
        raise PydanticCustomError(INVALID_REQUEST, message)


class AnalyzeCommentRequest(Body):
    """A comment and the attributes to score. TOXICITY is required, and it is the only attribute with a score."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    comment: Comment
    requested_attributes: Annotated[
        dict[Attribute, AttributeParameters],
        BeforeValidator(_known_attributes),
        Field(json_schema_extra={"required": [ATTRIBUTE]}),
    ]
    languages: Annotated[Languages | None, AfterValidator(_supported)] = Field(
        None,
        description="must contain ru or a variant such as ru-RU; unset means ru",
        json_schema_extra={"contains": {"pattern": "^[Rr][Uu]([-_].*)?$"}},
    )
    context: Annotated[Context | None, AfterValidator(_one_context)] = Field(None, description="not used")
    span_annotations: bool | None = Field(
        None, description=f"score each sentence, at most {MAX_SENTENCES}; unset means one span for the whole text"
    )
    do_not_store: bool | None = Field(None, description="not used; the service never stores texts")
    client_token: ClientToken | None = Field(None, description="echoed in the response")
    session_id: ClientToken | None = Field(None, description="not used")
    community_id: ClientToken | None = Field(None, description="not used")

    @property
    def score_threshold(self) -> float:
        """The lowest score that the response includes."""
        return self.requested_attributes["TOXICITY"].score_threshold or 0.0

    @property
    def unscored(self) -> list[Attribute]:
        """The requested attributes that the model does not score."""
        return [name for name in self.requested_attributes if name != ATTRIBUTE]


class ProbabilityScore(Document):
    value: float = Field(description="p(toxic)")
    type: Literal["PROBABILITY"] = "PROBABILITY"


class SpanScore(Document):
    begin: int = Field(description="in UTF-16 code units as in Perspective")
    end: int = Field(description="exclusive")
    score: ProbabilityScore


class AttributeScores(Document):
    span_scores: list[SpanScore] = Field(
        description="one span per sentence if spanAnnotations is set, or else one span for the whole text"
    )
    summary_score: ProbabilityScore


class AnalyzeCommentResponse(Document):
    attribute_scores: dict[Literal["TOXICITY"], AttributeScores] | None = Field(
        None, description="absent when the score is below scoreThreshold"
    )
    languages: list[str] = Field(description="the request's languages; ru when it has none")
    detected_languages: list[str] | None = Field(
        None, description="ru, or und for a text in another language; absent if the request has languages"
    )
    client_token: str | None = None


def build_response(
    request: AnalyzeCommentRequest, score: float, sentences: Sequence[tuple[Span, float]], russian: bool | None
) -> AnalyzeCommentResponse:
    """Build the response to `request` from p(toxic) of its comment and of each sentence.

    Without sentences, the whole comment is one span. `russian` None means that the language was not checked.
    """
    text = request.comment.text
    spans = [
        SpanScore(
            begin=_units(text[: span.begin]), end=_units(text[: span.end]), score=ProbabilityScore(value=value)
        )
        for span, value in sentences or [(Span(0, len(text)), score)]
    ]
    scores = AttributeScores(span_scores=spans, summary_score=ProbabilityScore(value=score))
    return AnalyzeCommentResponse(
        attribute_scores={"TOXICITY": scores} if score >= request.score_threshold else None,
        languages=request.languages or [LANGUAGE],
        detected_languages=None if russian is None else [LANGUAGE if russian else UNDETERMINED],
        client_token=request.client_token,
    )


def _units(text: str) -> int:
    """Return the length of a text in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


class SuggestedScore(Body):
    value: float | None = None
    type: Annotated[str, StringConstraints(max_length=100)] | None = None


class SuggestedSpan(Body):
    begin: int | None = None
    end: int | None = None
    score: SuggestedScore | None = None


class SuggestedScores(Body):
    """What a person says the scores of an attribute should be."""

    summary_score: SuggestedScore | None = None
    span_scores: Annotated[list[SuggestedSpan], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None


class SuggestCommentScoreRequest(Body):
    """A comment with the scores that a person suggests."""

    comment: Comment
    attribute_scores: Annotated[dict[Attribute, SuggestedScores], BeforeValidator(_all_known)] = Field(
        description="not used; the service stores no suggestion"
    )
    languages: Languages | None = Field(None, description="repeated in the response")
    context: Annotated[Context | None, AfterValidator(_one_context)] = Field(None, description="not used")
    client_token: ClientToken | None = Field(None, description="echoed in the response")
    session_id: ClientToken | None = Field(None, description="not used")
    community_id: ClientToken | None = Field(None, description="not used")


class SuggestCommentScoreResponse(Document):
    client_token: str | None = None
    requested_languages: list[str] | None = None


class GoogleStatus(BaseModel):
    code: int = Field(description="the HTTP status")
    message: str
    status: str = Field(examples=["INVALID_ARGUMENT"])
    details: list[dict[str, Any]] | None = Field(
        None,
        description="on 400: commentanalyzer's Error with an errorType, and BadRequest with the fields",
    )


class GoogleErrorResponse(BaseModel):
    """The body of every response with a status outside 2xx."""

    error: GoogleStatus
