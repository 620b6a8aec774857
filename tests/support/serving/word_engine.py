"""The service with a fake engine: a text is toxic when it contains TOXIC_WORD."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from support.training.letter_tokenizer import LetterTokenizer
from toxicity_api.prompting import label_tokens
from toxicity_api.spec import Labels
from toxicity_api.stage_config import ServingConfig
from toxicity_serving.engine.protocol import EngineError, LabelTokenMissing, LoadedModel
from toxicity_serving.http.app import create_app
from toxicity_serving.http.connection import ConnectionLimits
from toxicity_serving.http.server import listen, server_config
from toxicity_serving.lifecycle import StallLimits

CONFIG = ServingConfig.model_validate(
    {
        "model": "ru-toxicity",
        "fingerprint": "f1",
        "modelDir": "/artifacts/quantize-f1/model",
        "promptTemplate": "текст: {text}\nответ:",
        "labels": {"toxic": "да", "nonToxic": "нет"},
        "threshold": 0.5,
        "baseModel": "gemma",
        "maxModelLen": 200,
    }
)
END_OF_TEXT, EOS = "<eos>", 2
VOCABULARY, UNKNOWN_CHARACTER = sys.maxunicode, chr(sys.maxunicode)
TOXIC_WORD, UNANSWERED_WORD, DEADLY_WORD, HELD_WORD = "дебил", "молчи", "умри", "жди"
END = "\nответ:"


class WordEngine:
    """Returns log-probabilities by the words in the prompt.

    Like any engine, it refuses `labels` that begin with the same token. With `same`, all texts get the same score. With
    `broken`, the start fails with that message. With `held`, the start blocks. The model was trained with
    `normal_form`. The engine reads a prompt from its last END_OF_TEXT on. Prompts with HELD_WORD block until `release`.
    `active` counts the prompts in the engine, `answered` the finished ones.
    """

    def __init__(
        self,
        *,
        labels: Labels = CONFIG.labels,
        same: bool = False,
        broken: str = "",
        held: bool = False,
        normal_form: int = 0,
    ) -> None:
        self._labels = labels
        self._same = same
        self._normal_form = normal_form
        self._broken = broken
        self._may_start = asyncio.Event()
        if not held:
            self._may_start.set()
        self._released = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.active = self.answered = 0
        self.dead = False
        self.stopped = False

    def release(self) -> None:
        """Unblock the held prompts. Call it from a thread other than the engine's."""
        assert self._loop
        self._loop.call_soon_threadsafe(self._released.set)

    async def start(self) -> LoadedModel:
        self._loop = asyncio.get_running_loop()
        await self._may_start.wait()
        if self._broken:
            raise EngineError(self._broken)
        tokenizer = LetterTokenizer([END_OF_TEXT])
        label_tokens(tokenizer, self._labels)
        return LoadedModel(
            tokenizer,
            VOCABULARY,
            "words 1",
            "decompressed",
            "float32",
            False,
            self._normal_form,
        )

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        self.active += 1
        try:
            answer = await self._answer("".join(map(chr, prompt_ids[1:])))
        finally:
            self.active -= 1
        self.answered += 1
        return answer

    async def _answer(self, text: str) -> tuple[float, float]:
        text = text[text.rfind(chr(EOS)) + 1 :]
        assert text.endswith(END), f"the question is missing at the end of {text!r}"
        if HELD_WORD in text:
            await self._released.wait()
        if UNANSWERED_WORD in text:
            raise LabelTokenMissing("no label token")
        if DEADLY_WORD in text:
            self.dead = True
            raise EngineError("dead")
        toxic, harmless = -0.2, -1.7
        return (toxic, harmless) if TOXIC_WORD in text or self._same else (harmless, toxic)

    async def check(self) -> None:
        if self.dead:
            raise EngineError("dead")

    async def stop(self) -> None:
        self.stopped = True


@contextlib.contextmanager
def running(
    engine: WordEngine,
    failures: list[str] | None = None,
    *,
    config: ServingConfig = CONFIG,
    token: str | None = None,
    check_seconds: float = 0.01,
    limits: ConnectionLimits | None = None,
    stall: StallLimits | None = None,
) -> Iterator[httpx.Client]:
    """Run the service with its lifecycle on a real socket, and yield a client that does not send the token."""
    reported = [] if failures is None else failures
    app = create_app(config, engine, reported.append, check_seconds, token, stall)
    server = uvicorn.Server(server_config(app, finish_seconds=5, limits=limits))
    with listen(0) as listener:
        if limits is not None:  # a small buffer, which a client that does not read fills at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def ready(
    engine: WordEngine | None = None,
    *,
    config: ServingConfig = CONFIG,
    token: str | None = None,
    limits: ConnectionLimits | None = None,
) -> Iterator[httpx.Client]:
    """Run the service as `running` does, and yield the client when /readyz returns 200."""
    with running(engine or WordEngine(), config=config, token=token, limits=limits) as client:
        wait(lambda: client.get("/readyz").status_code == 200)
        yield client


def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until the condition holds. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def samples(client: httpx.Client) -> dict[str, float]:
    """Return the samples of /metrics by name with labels, read by Prometheus's parser."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def post(client: httpx.Client, *texts: str, **fields: Any) -> httpx.Response:
    """Send a batch to POST /v1/classify."""
    return client.post("/v1/classify", json={"texts": list(texts), **fields})
