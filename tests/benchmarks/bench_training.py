"""Samples per second of training: how batches are made, both engines, and both precisions; `make bench-training`.

All figures come from one run on one machine over the same rows; only their ratios mean something elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from support.training.tiny import forget_accelerator, last_adapter, untracked
from toxicity_api.spec import TrainingSpec
from toxicity_training.engines.batches import IGNORED, collate, label_loss, plan_batches
from toxicity_training.engines.rows import EpochRows, Row, build_rows
from toxicity_training.model import add_lora, load_model
from toxicity_training.precision import BF16, FP32
from toxicity_training.prompts import pad_id_of
from toxicity_training.sources.files import read_dataset
from toxicity_training.splits import sample
from toxicity_training.stage import engine

ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1200, help="rows that the batches are planned from")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps that are timed, each way")
    parser.add_argument("--max-input-length", type=int, default=256)
    options = parser.parse_args()
    spec = TrainingSpec(gpus=0, max_input_length=options.max_input_length)
    model, tokenizer = load_model(options.base_model, spec)
    rows = build_rows(tokenizer, sample(read_dataset(options.dataset, "comment", "toxic"), options.rows, 1), spec)
    adapted, pad_id = add_lora(model, spec), pad_id_of(tokenizer)
    print(f"{len(rows)} rows, batch {spec.batch_size}, at most {spec.max_input_tokens} tokens, {ROUNDS} rounds")
    report("batches", measure_batches(adapted, rows, pad_id, spec, options.steps))
    some = rows[: options.steps * spec.batch_size]
    engines = {name: spec.model_copy(update={"engine": name}) for name in ("trainer", "loop")}
    report("engines", measure_trainings(adapted, some, pad_id, engines))
    precisions = {name: spec.model_copy(update={"precision": name}) for name in (FP32, BF16)}
    report("precisions", measure_trainings(adapted, some, pad_id, precisions))
    return 0


def measure_batches(
    model: Any, rows: Sequence[Row], pad_id: int, spec: TrainingSpec, steps: int
) -> dict[str, list[float]]:
    """Samples per second of forward and backward passes over the same rows, by batching method."""
    lengths = [len(row["input_ids"]) for row in rows]
    grouped = plan_batches(lengths, spec.batch_size, 1, spec.seed, 0)
    grouped = [batch for batch in grouped if len(batch) == spec.batch_size]
    grouped = grouped[:: max(1, len(grouped) // steps)][:steps]
    order = [index for batch in grouped for index in batch]
    Random(spec.seed).shuffle(order)
    mixed = [order[start : start + spec.batch_size] for start in range(0, len(order), spec.batch_size)]
    ways: dict[str, tuple[list[list[int]], int]] = {
        "padded to maxInputLength": (mixed, spec.max_input_tokens),
        "padded to the longest": (mixed, 0),
        "grouped by length": (grouped, 0),
    }

    def run(batches: list[list[int]], pad_to: int) -> None:
        for batch in batches:
            inputs = collate([rows[index] for index in batch], pad_id, pad_to)
            label_loss(model, inputs, (inputs["labels"] != IGNORED).sum()).backward()

    model.train()
    timed = {name: (lambda way=way: run(*way)) for name, way in ways.items()}
    return rates(timed, len(order))


def measure_trainings(
    model: Any, rows: Sequence[Row], pad_id: int, specs: Mapping[str, TrainingSpec]
) -> dict[str, list[float]]:
    """Samples per second of whole trainings over the same rows, by spec."""

    def run(chosen: TrainingSpec) -> None:
        with tempfile.TemporaryDirectory() as checkpoints:
            forget_accelerator()
            engine(chosen)(
                model,
                EpochRows(rows),
                pad_id,
                chosen,
                Path(checkpoints),
                lambda line: None,
                last_adapter(chosen, len(rows)),
                untracked(),
            )

    return rates({name: (lambda spec=spec: run(spec)) for name, spec in specs.items()}, len(rows))


def rates(ways: dict[str, Callable[[], None]], samples: int) -> dict[str, list[float]]:
    """Samples per second of each method in each round; they alternate, so a slow phase affects all of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            found[name].append(samples / (time.perf_counter() - started))
    return found


def report(title: str, found: dict[str, list[float]]) -> None:
    """The median of each method, its range, and its ratio to the first one."""
    first = statistics.median(next(iter(found.values())))
    print(f"\n{title:<26}{'samples/s':>10}{'range':>16}{'ratio':>8}")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"{name:<26}{median:>10.2f}{f'{min(values):.2f}-{max(values):.2f}':>16}{median / first:>8.2f}")


if __name__ == "__main__":
    raise SystemExit(main())
