"""Scores the splits with one model folder in the serving engine, and measures speed by text length in characters.

Runs with the packages of the serving image; prints one JSON document. `bench_quantization.py` calls it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import EngineConfig
from toxicity_evaluation.answers import ask
from toxicity_serving.__main__ import prepare_process
from toxicity_serving.classifier import Classifier
from toxicity_serving.engine.protocol import LoadedModel
from toxicity_serving.engine.vllm import VllmEngine
from toxicity_training.splits import read_split

IN_FLIGHT = 16
TEXTS = 48
STEP, LONGEST = 100, 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path, required=True, help="a training stage's splits")
    parser.add_argument("folder", type=Path, help="a stage's model folder")
    options = parser.parse_args()
    prepare_process(gpus=0)
    import vllm  # noqa: F401  so that its import is not counted as load time

    print(json.dumps(asyncio.run(measure(options.folder, options.splits))), flush=True)
    return 0


def texts_by_length(splits: Path) -> list[tuple[Bucket, list[str]]]:
    """Up to TEXTS different real texts of each bucket, in the splits' order."""
    names = ("test", "validation", "train")
    texts = dict.fromkeys(example.text for name in names for example in read_split(splits, name))
    buckets = length_buckets(STEP, LONGEST)
    return [(bucket, [text for text in texts if bucket.holds(len(text))][:TEXTS]) for bucket in buckets]


class Timed(VllmEngine):
    """The engine; measures the speed by length before it stops."""

    def __init__(self, config: EngineConfig, scratch: Path, buckets: Sequence[tuple[Bucket, list[str]]]) -> None:
        super().__init__(config, scratch)
        self._timed_config, self._buckets = config, buckets
        self.figures: list[dict[str, Any]] = []
        self._loaded: LoadedModel | None = None

    async def start(self) -> LoadedModel:
        self._loaded = loaded = await super().start()
        return loaded

    async def stop(self) -> None:
        if self._loaded is not None:
            classifier = Classifier(self._timed_config, self, self._loaded)
            for bucket, texts in self._buckets:
                self.figures.append({"name": bucket.name, **await offer(classifier, texts)})
        await super().stop()


async def measure(folder: Path, splits: Path) -> dict[str, Any]:
    """The folder's scores of validation and test, its figures, and texts per second and p95 latency per bucket."""
    spec = TrainingSpec(gpus=0)
    config = EngineConfig(
        model="bench",
        fingerprint=folder.parent.name,
        model_dir=folder,
        prompt_template=spec.prompt_template,
        labels=spec.labels,
        max_model_len=1024,
        max_num_seqs=IN_FLIGHT,
    )
    validation, test = ([example.text for example in read_split(splits, name)] for name in ("validation", "test"))
    with tempfile.TemporaryDirectory() as scratch:
        engine = Timed(config, Path(scratch), texts_by_length(splits))
        answers = await ask(
            config, engine, validation, test, lambda line: print(line, file=sys.stderr, flush=True)
        )
    return {"answers": asdict(answers) | {"figures": answers.figures.to_wire()}, "buckets": engine.figures}


async def offer(classifier: Classifier, texts: Sequence[str]) -> dict[str, float]:
    """Scores all texts, IN_FLIGHT at a time."""
    waiting, latencies = iter(texts), []

    async def user() -> None:
        for text in waiting:
            sent = time.monotonic()
            await classifier.scores([text])
            latencies.append(time.monotonic() - sent)

    began = time.monotonic()
    await asyncio.gather(*(user() for _ in range(IN_FLIGHT)))
    ranked = sorted(latencies)
    return {
        "textsPerSecond": len(texts) / (time.monotonic() - began),
        "p95Seconds": ranked[-(-len(ranked) * 95 // 100) - 1],
    }


if __name__ == "__main__":
    sys.exit(main())
