"""Test the metrics. Names and meanings are a public interface; docs/reference/service-metrics.md lists them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.serving.word_engine import CONFIG, TOXIC_WORD, post, ready, samples

HIGH = 1 / (1 + math.exp(-1.5))
NAMES = {
    "toxicity_requests": "counter",
    "toxicity_request_duration_seconds": "histogram",
    "toxicity_tokenize_seconds": "histogram",
    "toxicity_queue_seconds": "histogram",
    "toxicity_engine_seconds": "histogram",
    "toxicity_requests_in_flight": "gauge",
    "toxicity_queue_depth": "gauge",
    "toxicity_batch_size": "histogram",
    "toxicity_texts": "counter",
    "toxicity_sentences": "counter",
    "toxicity_truncated_texts": "counter",
    "toxicity_windowed_texts": "counter",
    "toxicity_prompt_tokens": "counter",
    "toxicity_score": "histogram",
    "toxicity_label_token_misses": "counter",
    "toxicity_ready": "gauge",
    "toxicity_start_seconds": "gauge",
}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


def test_metric_names_and_types_are_stable(client: httpx.Client) -> None:
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = {family.name: family.type for family in families if not family.name.endswith("_created")}
    assert found == NAMES


def test_outcomes_are_exported_before_the_first_request(client: httpx.Client) -> None:
    outcomes = {
        name: value for name, value in samples(client).items() if name.startswith("toxicity_requests_total")
    }
    names = ("ok", "client_error", "overloaded", "deadline", "cancelled", "server_error")
    assert outcomes == {f'toxicity_requests_total{{outcome="{name}"}}': 0 for name in names}


def test_texts_tokens_batches_and_scores_are_counted(client: httpx.Client) -> None:
    post(client, "спасибо", TOXIC_WORD, TOXIC_WORD)
    post(client, "а" * 250)
    counted = samples(client)
    around = 1 + len(CONFIG.prompt_template.replace("{text}", ""))
    assert counted["toxicity_texts_total"] == 4
    assert counted["toxicity_prompt_tokens_total"] == len("спасибо") + 2 * len(TOXIC_WORD) + 3 * around + 2 * 199
    sizes = [counted[f'toxicity_batch_size_bucket{{le="{le}"}}'] for le in ("1.0", "2.0", "4.0")]
    assert sizes == [1, 1, 2]
    assert counted["toxicity_score_count"] == 4
    assert counted["toxicity_score_sum"] == pytest.approx(2 * HIGH + 2 * (1 - HIGH))
    assert [counted[f'toxicity_score_bucket{{le="{le}"}}'] for le in ("0.15", "0.2", "0.8", "0.85")] == [
        0,
        2,
        2,
        4,
    ]
    assert counted["toxicity_request_duration_seconds_count"] == 2


def test_refused_texts_are_not_counted(client: httpx.Client) -> None:
    post(client, "молчи", TOXIC_WORD)
    counted = samples(client)
    names = ("texts_total", "prompt_tokens_total", "score_count", "batch_size_count")
    assert [counted[f"toxicity_{name}"] for name in names] == [0] * 4


def test_start_seconds_are_recorded(client: httpx.Client) -> None:
    assert 0 < samples(client)["toxicity_start_seconds"] < 10


def test_documentation_lists_all_metrics() -> None:
    page = Path("docs/reference/service-metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(toxicity_\w+)`", page, re.MULTILINE)
    exposed = {name + ("_total" if kind == "counter" else "") for name, kind in NAMES.items()}
    assert set(rows) == exposed and len(rows) == len(exposed)
