"""The serving process with vLLM itself on a tiny model: what only the real engine can get wrong.

They run with the packages of the serving image: `make test-evaluation`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving_process import DEADLINE, Served, running, wait
from tiny import PLAIN, write_base_model
from toxicity_api.checksums import write_checksums
from toxicity_api.results import EXIT_FAILED

pytestmark = pytest.mark.engine

FLOOD = {"texts": [" ".join(PLAIN * 600)] * 64}
"""The largest batch of the longest texts, each in 32 windows: work for a while, even for a tiny model."""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving") / "model"
    write_base_model(folder, hidden_size=64, intermediate_size=128, head_dim=64)
    write_checksums(folder)
    return folder


@pytest.fixture(scope="module")
def served(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(model_dir, tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="module")
def flood_seconds(served: Served) -> float:
    """What the flood takes when nobody stops it."""
    began = time.monotonic()
    assert served.client.post("/v1/classify", json=FLOOD).status_code == 200
    seconds = time.monotonic() - began
    assert seconds > 0.8, "too quick to tell work that was dropped from work that was done"
    return seconds


def test_the_weights_were_verified_and_the_engine_is_named(served: Served) -> None:
    card = served.client.get("/v1/model").json()
    assert card["verified"] is True
    assert card["engine"].startswith("vllm ")


def test_an_identical_text_scores_the_same_alone_and_in_a_batch_of_64(served: Served) -> None:
    text = " ".join(PLAIN)
    [alone] = served.classify(text).json()["results"]
    mixed = [text if at % 2 else f"{text} {at} {PLAIN[at % len(PLAIN)]}" for at in range(64)]
    answer = served.client.post("/v1/classify", json={"texts": mixed}).json()
    assert {result["score"] for at, result in enumerate(answer["results"]) if at % 2} == {alone["score"]}
    assert len({result["score"] for result in answer["results"]}) > 1, "the texts must not all score alike"


def test_work_beyond_its_deadline_leaves_the_engine(served: Served, flood_seconds: float) -> None:
    """The engine serves in order: were the flood still in it, the text behind would wait for most of its time."""
    flood = served.client.post("/v1/classify", json=FLOOD, headers={DEADLINE: str(int(250 * flood_seconds))})
    assert flood.status_code == 504
    assert served.classify("чай", seconds=flood_seconds / 2).status_code == 200


def test_work_of_a_client_that_left_leaves_the_engine(served: Served, flood_seconds: float) -> None:
    before = served.metric('toxicity_requests_total{outcome="cancelled"}')
    with pytest.raises(httpx.ReadTimeout):
        served.client.post("/v1/classify", json=FLOOD, timeout=httpx.Timeout(10, read=flood_seconds / 4))
    wait(lambda: served.metric('toxicity_requests_total{outcome="cancelled"}') == before + 1, 10)
    assert served.classify("чай", seconds=flood_seconds / 2).status_code == 200
    assert served.metric("toxicity_queue_depth") == 0


def test_an_engine_that_dies_ends_the_process_and_nobody_gets_a_made_up_score(
    model_dir: Path, tmp_path: Path
) -> None:
    """A tokenizer with words that the weights know nothing of: the engine's lookup of such a token fails."""
    from tokenizers import Tokenizer

    broken = Path(shutil.copytree(model_dir, tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(broken / "tokenizer.json"))
    tokenizer.add_tokens([f"слово{number}" for number in range(200)])
    tokenizer.save(str(broken / "tokenizer.json"))
    write_checksums(broken)
    poisoned = {"texts": [*FLOOD["texts"][:32], "слово199", *FLOOD["texts"][:31]]}
    with running(broken, tmp_path, enforceEager=True) as served, ThreadPoolExecutor() as pool:
        asked = pool.submit(served.client.post, "/v1/classify", json=poisoned)
        wait(lambda: served.metric("toxicity_requests_in_flight") == 1, 10)
        assert served.classify("чай").status_code == 503, (
            "it waits behind the other, and the engine dies meanwhile"
        )
        assert asked.result(timeout=60).status_code == 503
        assert served.process.wait(timeout=60) == EXIT_FAILED
        assert "vLLM's engine died" in served.log.read_text()
