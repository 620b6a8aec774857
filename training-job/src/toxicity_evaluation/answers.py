"""Runs one model folder in the serving engine: its scores, speed and memory.

`ask_apart` does so in a child process, since an engine does not release all its memory and state.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from toxicity_api.prompting import LabelTokenError, LabelTokens, label_tokens
from toxicity_api.results import EngineFigures
from toxicity_api.stage_config import EngineConfig
from toxicity_serving.classifier import Classifier, UnknownTokenError
from toxicity_serving.engine.compiled import CACHE_VARIABLE, pack
from toxicity_serving.engine.protocol import Engine, LabelTokenMissing
from toxicity_serving.engine.weights import default_scratch
from toxicity_stage.errors import ModelError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Answers:
    """p(toxic) in [0, 1] of the validation and test rows, in their order, with label tokens and engine figures."""

    validation: list[float]
    test: list[float]
    labels: LabelTokens
    engine: str
    figures: EngineFigures
    compiled_sha256: str | None = None


async def ask(
    config: EngineConfig, engine: Engine, validation: Sequence[str], test: Sequence[str], say: Say
) -> Answers:
    """Starts `engine`, scores all rows as serving would, and stops it. The test rows, sent at once, give the speed.

    Raises ModelError if the model returns no valid scores, EngineError if the engine fails.
    """
    began = time.monotonic()
    try:
        loaded = await engine.start()
        classifier = Classifier(config, engine, loaded)
        await classifier.scores(test[:1])
        load_seconds = time.monotonic() - began
        say(f"{config.model_dir}: {loaded.weights} in {loaded.engine}, first answer after {load_seconds:.0f} s")
        of_validation = [score.value for score in await classifier.scores(validation)]
        began = time.monotonic()
        of_test = [score.value for score in await classifier.scores(test)]
        rate = len(test) / (time.monotonic() - began)
        memory = engine_memory()
    except (LabelTokenMissing, LabelTokenError, UnknownTokenError) as error:
        raise ModelError(
            "ScoresUnusable", f"{config.model_dir} returns no valid scores in the serving engine: {error}"
        ) from error
    finally:
        await engine.stop()
    say(f"{config.model_dir}: {rate:.1f} texts per second, {memory / 2**30:.1f} GiB")
    figures = EngineFigures(
        weights=loaded.weights,
        load_seconds=round(load_seconds, 1),
        texts_per_second=round(rate, 2),
        memory_bytes=memory,
    )
    labels = label_tokens(loaded.tokenizer, config.labels)
    return Answers(of_validation, of_test, labels, loaded.engine, figures)


def ask_apart(
    config: EngineConfig, validation: Sequence[str], test: Sequence[str], say: Say, compiled: Path | None
) -> Answers:
    """Runs `ask` with vLLM in a child process; saves compiled code to the file `compiled`, unless that is None.

    Raises ModelError, EngineError, and BrokenProcessPool if the process dies.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_ask_here, config, validation, test, say, compiled).result()


def _ask_here(
    config: EngineConfig, validation: Sequence[str], test: Sequence[str], say: Say, compiled: Path | None
) -> Answers:
    from toxicity_serving.engine.vllm import VllmEngine

    with tempfile.TemporaryDirectory() as cache:
        os.environ[CACHE_VARIABLE] = cache
        import vllm  # noqa: F401  imported first, so that its import does not count as load time

        answers = asyncio.run(ask(config, VllmEngine(config, default_scratch()), validation, test, say))
        if compiled is None or config.enforce_eager:
            return answers
        return replace(answers, compiled_sha256=pack(Path(cache), compiled))


def engine_memory() -> int:
    """Proportional set size of this process and its children in bytes; shared pages count once."""
    import psutil

    this = psutil.Process()
    return sum(int(process.memory_full_info().pss) for process in (this, *this.children(recursive=True)))
