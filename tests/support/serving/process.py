"""Run the serving process with vLLM as its container does, for tests with the packages of the serving image."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from support.training.plain_scores import HARMLESS, TEMPLATE, TOXIC
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, ServingConfig

START_SECONDS = 240
DEADLINE = "x-envoy-expected-rq-timeout-ms"


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

    def scores(self, texts: list[str]) -> list[float]:
        answer = self.client.post("/v1/classify", json={"texts": texts}).raise_for_status().json()
        return [result["score"] for result in answer["results"]]

    def metric(self, name: str) -> float:
        """Return the value of a metric. `name` includes the labels, if any."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def wait(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)


def engine_fields(model_dir: Path, **fields: object) -> dict[str, object]:
    """Return the engine's part of a configuration for the tiny model in `model_dir`, extended by `fields`."""
    return {
        "model": "tiny",
        "fingerprint": "f1",
        "modelDir": str(model_dir),
        "promptTemplate": TEMPLATE,
        "labels": {"toxic": TOXIC, "nonToxic": HARMLESS},
        "maxModelLen": 256,
        "maxNumSeqs": 8,
        **fields,
    }


@contextlib.contextmanager
def running(model_dir: Path, folder: Path, **fields: object) -> Iterator[Served]:
    """Run the service with the configuration `fields`, and yield it when ready. Its files and log go to `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = ServingConfig.model_validate(engine_fields(model_dir, threshold=0.5, port=port, **fields))
    variables = os.environ | {STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True, exclude_none=True)}
    log = folder / "serving.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "toxicity_serving"],
            env=variables | {"HOME": str(folder), "TMPDIR": str(folder)},
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
