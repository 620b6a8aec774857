"""The serving process with vLLM itself on a tiny model: what only the real engine can get wrong.

They run with the packages of the serving image: `make test-evaluation`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tiny import PLAIN, write_base_model
from toxicity_api.checksums import write_checksums
from toxicity_api.results import EXIT_FAILED
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, ServingConfig

pytestmark = pytest.mark.engine

START_SECONDS = 240
DEADLINE = "x-envoy-expected-rq-timeout-ms"
FLOOD = {"texts": [" ".join(PLAIN * 600)] * 64}
"""The largest batch of the longest texts, each in 32 windows: work for a while, even for a tiny model."""


@dataclass
class Served:
    process: subprocess.Popen[str]
    client: httpx.Client
    log: Path

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the service ended while it started: {self.log.read_text()[-2000:]}"
        with contextlib.suppress(httpx.ConnectError):
            return self.client.get("/readyz").status_code == 200
        return False

    def classify(self, text: str, seconds: float = 60) -> httpx.Response:
        headers = {DEADLINE: str(int(1000 * seconds))}
        return self.client.post("/v1/classify", json={"texts": [text]}, headers=headers)

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def wait(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving") / "model"
    write_base_model(folder, hidden_size=64, intermediate_size=128, head_dim=64)
    write_checksums(folder)
    return folder


@contextlib.contextmanager
def running(model_dir: Path, folder: Path) -> Iterator[Served]:
    """The service as its container runs it, once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = ServingConfig.model_validate(
        {
            "model": "tiny",
            "fingerprint": "f1",
            "modelDir": str(model_dir),
            "promptTemplate": "текст: {text}\nответ:",
            "labels": {"toxic": "да", "nonToxic": "нет"},
            "maxModelLen": 256,
            "maxNumSeqs": 8,
            "threshold": 0.5,
            "port": port,
        }
    )
    variables = os.environ | {STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True, exclude_none=True)}
    log = folder / "serving.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "toxicity_serving"],
            env=variables | {"HOME": str(folder)},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client,
    ):
        found = Served(process, client, log)
        try:
            wait(found.is_ready, START_SECONDS)
            yield found
        finally:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()


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


def test_an_engine_that_is_killed_ends_the_process_and_nobody_gets_a_made_up_score(
    model_dir: Path, tmp_path: Path
) -> None:
    with running(model_dir, tmp_path) as served, ThreadPoolExecutor() as pool:
        asked = pool.submit(served.client.post, "/v1/classify", json=FLOOD)
        wait(lambda: served.metric("toxicity_requests_in_flight") == 1, 10)
        engines = [
            child
            for child in psutil.Process(served.process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        ]
        assert engines, "vLLM's engine is a process of its own"
        for engine in engines:
            engine.send_signal(signal.SIGKILL)
        assert asked.result(timeout=60).status_code == 503
        assert served.process.wait(timeout=60) == EXIT_FAILED
        assert "died" in served.log.read_text()
