"""One model folder in the serving engine: what it says to each row, how fast, and in how much memory.

`ask_apart` does it in a process of its own: an engine would leave something behind for the next one.
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
    """p(toxic) in [0, 1] of the validation and test rows, in their order, and what it took."""

    validation: list[float]
    test: list[float]
    labels: LabelTokens
    engine: str
    figures: EngineFigures
    compiled_sha256: str | None = None


async def ask(
    config: EngineConfig, engine: Engine, validation: Sequence[str], test: Sequence[str], say: Say
) -> Answers:
    """Starts `engine`, asks it all rows as serving would, stops it. The test rows, asked at once, give the speed.

    Raises ModelError when the model's answers are no scores, EngineError when the engine does not work.
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
            "ScoresUnusable", f"{config.model_dir} gives no scores in the serving engine: {error}"
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
    """What vLLM answers in a process of its own; what it compiled goes into the file `compiled`, unless that is None.

    Raises ModelError, EngineError, and BrokenProcessPool when the process dies.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_ask_here, config, validation, test, say, compiled).result()


def _ask_here(
    config: EngineConfig, validation: Sequence[str], test: Sequence[str], say: Say, compiled: Path | None
) -> Answers:
    from toxicity_serving.engine.vllm import VllmEngine

    with tempfile.TemporaryDirectory() as cache:
        os.environ[CACHE_VARIABLE] = cache
        import vllm  # noqa: F401  here, so that its import is not counted as load time

        answers = asyncio.run(ask(config, VllmEngine(config, default_scratch()), validation, test, say))
        if compiled is None or config.enforce_eager:
            return answers
        return replace(answers, compiled_sha256=pack(Path(cache), compiled))


def engine_memory() -> int:
    """Proportional set size of this process and its children in bytes: shared pages are counted once in all."""
    import psutil

    this = psutil.Process()
    return sum(int(process.memory_full_info().pss) for process in (this, *this.children(recursive=True)))
