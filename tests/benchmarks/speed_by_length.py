"""Texts per second and p95 by length of some model folders in the serving engine, one after another.

Runs with the packages of the serving image; prints one JSON document a folder. `bench_quantization.py` calls it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxicity_api.buckets import Bucket, length_buckets
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import EngineConfig
from toxicity_evaluation.answers import engine_memory
from toxicity_serving.classify import Classifier
from toxicity_serving.vllm_engine import VllmEngine, set_vllm_environment
from toxicity_training.data import read_split

IN_FLIGHT = 16
TEXTS = 64
STEP, LONGEST = 100, 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path, required=True, help="a training stage's splits")
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    options = parser.parse_args()
    set_vllm_environment(os.environ, gpus=0)
    import vllm  # noqa: F401  so that its import is not counted as the first folder's load

    buckets = texts_by_length(options.splits)
    for item in options.folders:
        name, _, path = item.partition("=")
        print(json.dumps({"weights": name, **asyncio.run(measure(Path(path), buckets))}), flush=True)
    return 0


def texts_by_length(splits: Path) -> list[tuple[Bucket, list[str]]]:
    """Up to TEXTS different real texts of each bucket, in the splits' order."""
    texts = dict.fromkeys(
        example.text for name in ("test", "validation", "train") for example in read_split(splits, name)
    )
    buckets = length_buckets(STEP, LONGEST)
    return [(bucket, [text for text in texts if bucket.holds(len(text))][:TEXTS]) for bucket in buckets]


async def measure(folder: Path, buckets: Sequence[tuple[Bucket, list[str]]]) -> dict[str, Any]:
    """Load time in seconds, memory in bytes, and each bucket's texts per second and p95 with IN_FLIGHT at once."""
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
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        engine = VllmEngine(config, Path(scratch))
        try:
            loaded = await engine.start()
            classifier = Classifier(config, engine, loaded.tokenizer)
            await classifier.scores([buckets[0][1][0]])
            load_seconds = time.monotonic() - began
            await offer(classifier, buckets[0][1])  # warm
            figures = [{"name": bucket.name, **await offer(classifier, texts)} for bucket, texts in buckets]
            memory = engine_memory()
        finally:
            await engine.stop()
    return {"form": loaded.weights, "loadSeconds": load_seconds, "memoryBytes": memory, "buckets": figures}


async def offer(classifier: Classifier, texts: Sequence[str]) -> dict[str, float]:
    """IN_FLIGHT texts at any time until all have their score."""
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
