"""One model folder in the serving engine: what it says to each row, how fast, and in how much memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toxicity_api.prompting import LabelTokenError, LabelTokens, label_tokens
from toxicity_api.results import EngineFigures
from toxicity_api.stage_config import EngineConfig
from toxicity_serving.classify import Classifier
from toxicity_serving.engine import Engine, LabelTokenMissing
from toxicity_training.errors import ModelError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Answers:
    """p(toxic) in [0, 1] of the validation and test rows, in their order, and what it took."""

    validation: list[float]
    test: list[float]
    labels: LabelTokens
    engine: str
    figures: EngineFigures


async def ask(
    config: EngineConfig, engine: Engine, validation: Sequence[str], test: Sequence[str], say: Say
) -> Answers:
    """Starts `engine`, asks it all rows as serving would, stops it. The test rows, asked at once, give the speed.

    Raises ModelError when the model's answers are no scores, EngineError when the engine does not work.
    """
    began = time.monotonic()
    try:
        loaded = await engine.start()
        classifier = Classifier(config, engine, loaded.tokenizer)
        await classifier.scores(test[:1])
        load_seconds = time.monotonic() - began
        say(f"{config.model_dir}: {loaded.weights} in {loaded.engine}, first answer after {load_seconds:.0f} s")
        of_validation = [score.value for score in await classifier.scores(validation)]
        began = time.monotonic()
        of_test = [score.value for score in await classifier.scores(test)]
        rate = len(test) / (time.monotonic() - began)
        memory = engine_memory()
    except (LabelTokenMissing, LabelTokenError) as error:
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


def engine_memory() -> int:
    """Proportional set size of this process and its children in bytes: shared pages are counted once in all."""
    import psutil

    this = psutil.Process()
    return sum(int(process.memory_full_info().pss) for process in (this, *this.children(recursive=True)))
