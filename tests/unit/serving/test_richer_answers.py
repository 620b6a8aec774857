"""Scores per sentence and the language, on request: the native fields, and Perspective's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.serving.word_engine import CONFIG, HELD_WORD, TOXIC_WORD, WordEngine, post, ready, samples, wait
from toxicity_serving.sentences import MAX_SENTENCES

HIGH = 1 / (1 + math.exp(-1.5))
LOW = 1 - HIGH
HIDDEN = "\u200b"
PERSPECTIVE = "/v1alpha1/comments:analyze"
TEXT = f"  Спасибо 🙂!  Ты {TOXIC_WORD}. ладно\n"
SPANS = [("Спасибо 🙂!", LOW), (f"Ты {TOXIC_WORD}.", HIGH), ("ладно", LOW)]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


@contextlib.contextmanager
def held_request(client: httpx.Client, engine: WordEngine) -> Iterator[None]:
    """Keep one request in the engine until the block ends."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, client, HELD_WORD)
        wait(lambda: engine.active == 1)
        try:
            yield
        finally:
            engine.release()
            assert held.result().status_code == 200


def analyze(client: httpx.Client, text: str, **fields: Any) -> dict[str, Any]:
    body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}, **fields}
    return client.post(PERSPECTIVE, json=body).raise_for_status().json()  # type: ignore[no-any-return]


def test_each_sentence_has_its_score_and_its_place_in_the_text_that_was_sent(client: httpx.Client) -> None:
    first, second = post(client, TEXT, "нет", sentences=True, threshold=0.7).json()["results"]
    found = [(TEXT[part["begin"] : part["end"]], part["score"], part["toxic"]) for part in first["sentences"]]
    assert found == [(words, pytest.approx(score), score == HIGH) for words, score in SPANS]
    assert first["score"] == pytest.approx(HIGH)
    assert second["sentences"] == [{"begin": 0, "end": 3, "score": second["score"], "toxic": False}]


def test_perspective_has_a_span_per_sentence_in_utf16_units(client: httpx.Client) -> None:
    attribute = analyze(client, TEXT, spanAnnotations=True)["attributeScores"]["TOXICITY"]
    units = TEXT.encode("utf-16-le")
    found = [
        (units[2 * span["begin"] : 2 * span["end"]].decode("utf-16-le"), span["score"]["value"])
        for span in attribute["spanScores"]
    ]
    assert found == [(words, pytest.approx(score)) for words, score in SPANS]
    assert attribute["summaryScore"]["value"] == pytest.approx(HIGH)


@pytest.mark.parametrize("asked", [False, None])
def test_perspective_has_one_span_unless_sentences_are_asked_for(client: httpx.Client, asked: bool | None) -> None:
    [span] = analyze(client, TEXT, spanAnnotations=asked)["attributeScores"]["TOXICITY"]["spanScores"]
    assert (span["begin"], span["end"]) == (0, len(TEXT) + 1)


def test_sentences_are_scored_in_the_normal_form_and_placed_in_the_original() -> None:
    hidden = f"Да. Ты {HIDDEN.join(TOXIC_WORD)}! Нет."
    with ready(WordEngine(normal_form=1)) as client:
        [result] = post(client, hidden, sentences=True).json()["results"]
    toxic = [hidden[part["begin"] : part["end"]] for part in result["sentences"] if part["toxic"]]
    assert toxic == [f"Ты {HIDDEN.join(TOXIC_WORD)}!"]


def test_sentences_are_counted_and_logged_apart_from_texts(client: httpx.Client) -> None:
    before = samples(client)
    post(client, TEXT, "нет", sentences=True)
    after = samples(client)
    more = {
        name: after[f"toxicity_{name}_total"] - before[f"toxicity_{name}_total"] for name in ("texts", "sentences")
    }
    assert more == {"texts": 2, "sentences": 3}
    assert after["toxicity_score_count"] - before["toxicity_score_count"] == 2


def test_sentences_take_places_in_the_queue_like_texts() -> None:
    """Two prompts run and four may wait, one of them reserved for single texts."""
    config = CONFIG.model_copy(update={"max_num_seqs": 2, "queue_limit": 4})
    engine = WordEngine()
    with ready(engine, config=config) as client, held_request(client, engine):
        assert post(client, "Да. Нет. Да. Нет.", sentences=True).status_code == 429
        assert post(client, "Да. Нет.", sentences=True).status_code == 200
        assert post(client, "Да. Нет. Да. Нет.").status_code == 200


def test_too_many_sentences_are_refused_and_named(client: httpx.Client) -> None:
    fits, exceeds = "Да. " * MAX_SENTENCES, "Да. " * (MAX_SENTENCES // 2) + "Нет."
    [result] = post(client, fits, sentences=True).json()["results"]
    assert len(result["sentences"]) == MAX_SENTENCES
    answer = post(client, exceeds, exceeds, sentences=True)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "sentences"
    assert f"more than {MAX_SENTENCES} sentences" in error["message"]
    assert post(client, exceeds, exceeds).status_code == 200
    body = {"comment": {"text": fits + "Нет."}, "requestedAttributes": {"TOXICITY": {}}, "spanAnnotations": True}
    error = client.post(PERSPECTIVE, json=body).json()["error"]
    assert (error["code"], error["details"][0]["errorType"]) == (400, "INVALID_REQUEST")
    assert error["details"][1]["fieldViolations"][0]["field"] == "spanAnnotations"


def test_language_is_told_if_it_is_asked_for(client: httpx.Client) -> None:
    results = post(client, "спасибо", "thank you", check_language=True).json()["results"]
    assert [result["russian"] for result in results] == [True, False]
    assert all(0 < result["score"] < 1 for result in results)
    assert "russian" not in post(client, "thank you").json()["results"][0]


@pytest.mark.parametrize(
    ("text", "sent", "languages", "detected"),
    [
        ("спасибо", None, ["ru"], ["ru"]),
        ("thank you", None, ["ru"], ["und"]),
        ("thank you", [], ["ru"], ["und"]),
        ("thank you", ["ru"], ["ru"], None),
    ],
)
def test_perspective_detects_the_language_if_none_is_given(
    client: httpx.Client, text: str, sent: list[str] | None, languages: list[str], detected: list[str] | None
) -> None:
    answer = analyze(client, text, languages=sent)
    assert (answer["languages"], answer.get("detectedLanguages")) == (languages, detected)
    assert answer["attributeScores"], "a text in another language is scored as well"
