"""Quality, size and speed of 4-bit models by backend and group size, in the serving engine: `make bench-quantization`.

Takes the folder that a training stage left (as `make quality-model` does), runs the quantization stage as its container
would, with its image's packages, asks every variant in the serving engine, and prints three Markdown tables: quality
and size, load time and memory, speed by length. Folders that are there are not quantized again; what is printed was
measured in this run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity_api.prompting import LabelTokens
from toxicity_api.results import EngineFigures, EvaluationResult, QuantizationResult
from toxicity_api.spec import QuantizationSpec, ThresholdSpec, TrainingSpec
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, QuantizationConfig
from toxicity_evaluation.answers import Answers
from toxicity_evaluation.stage import Rows, Scored, evaluate
from toxicity_stage.artifacts import succeeded_result
from toxicity_training.splits import Splits, read_split, sample, write_splits

VARIANTS = (("llm-compressor", 32), ("llm-compressor", 64), ("llm-compressor", 128), ("autoawq", 128))
PARTS = {"llm-compressor": "quantization", "autoawq": "quantization-autoawq"}
STAGE_ROWS = 40
"""Rows that the quantization stage itself scores, by Transformers; the table's figures come from the engine."""
ASK = Path(__file__).with_name("ask_folder.py")
SEED = 1


@dataclass(frozen=True)
class Asked:
    """One folder in the serving engine: its scores, and speed by text length in characters."""

    answers: Answers
    buckets: list[dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True, help="a training stage's folder")
    parser.add_argument("--work", type=Path, required=True, help="where the variants are kept")
    parser.add_argument("--validation-rows", type=int, default=400, help="rows the thresholds are chosen on")
    parser.add_argument("--test-rows", type=int, help="rows of the test split; all when it is not given")
    options = parser.parse_args()
    work = options.work
    prepare(options.trained, work, options.validation_rows, options.test_rows)
    results = {f"{backend} {group}": quantize(work, backend, group) for backend, group in VARIANTS}
    folders = {"bf16": work / "train-genuine"} | {
        f"{backend} {group}": work / f"quantize-{backend}-{group}" for backend, group in VARIANTS
    }
    asked = {name: ask(work, folder / "model") for name, folder in folders.items()}
    for table in (quality_table(work, asked, results), cost_table(asked), speed_table(asked)):
        print("\n".join(["", *table]))
    return 0


def prepare(trained: Path, work: Path, validation_rows: int, test_rows: int | None) -> None:
    """The training's folder with few rows to score for the quantization stage, and the splits that are asked."""
    whole = Splits(*(read_split(trained / "splits", name) for name in ("train", "validation", "test")))
    asked = Splits(
        whole.train, sample(whole.validation, validation_rows, SEED), sample(whole.test, test_rows, SEED)
    )
    write_splits(asked, work / "splits")
    target = work / "train-genuine"
    if not target.exists():
        shutil.copytree(trained / "model", target / "model")
        shutil.copy2(trained / "result.json", target / "result.json")
        few = (sample(rows, STAGE_ROWS, SEED) for rows in (whole.validation, whole.test))
        write_splits(Splits(whole.train, *few), target / "splits")


def quantize(work: Path, backend: str, group_size: int) -> QuantizationResult:
    """The quantization stage's result; the stage runs unless its folder is there."""
    config = QuantizationConfig(
        model="bench",
        fingerprint=f"{backend}-{group_size}",
        artifacts=work,
        training_fingerprint="genuine",
        training=TrainingSpec(gpus=0),
        quantization=QuantizationSpec.model_validate({"gpus": 0, "backend": backend, "groupSize": group_size}),
    )
    if succeeded_result(config.output_dir) is None:
        log = work / f"{config.output_dir.name}.termination"
        environment = os.environ | {STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)}
        python_with(PARTS[backend], ["-m", "toxicity_quantization", "--termination-log", str(log)], environment)
    done = succeeded_result(config.output_dir)
    if done is None or done.quantization is None:
        raise SystemExit(f"{config.output_dir} was not made; see what the stage said")
    return done.quantization


def ask(work: Path, folder: Path) -> Asked:
    """Runs the folder in the serving engine."""
    output = python_with("serving", [str(ASK), "--splits", str(work / "splits"), str(folder)], dict(os.environ))
    (document,) = (json.loads(line) for line in output.splitlines() if line.startswith('{"answers"'))
    found = document["answers"]
    answers = Answers(
        found["validation"],
        found["test"],
        LabelTokens(**found["labels"]),
        found["engine"],
        EngineFigures.model_validate(found["figures"]),
    )
    return Asked(answers, document["buckets"])


def python_with(part: str, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Standard output of Python with the packages of the image `part`; also shown, as it comes, on standard error."""
    command = [sys.executable, "-m", "toxicity_cluster", "environment", part, "--", "python", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line[:300].rstrip(), file=sys.stderr, flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return "".join(lines)


def quality_table(work: Path, asked: dict[str, Asked], results: dict[str, QuantizationResult]) -> list[str]:
    """The unquantized weights, then each variant, at its own threshold on the same rows."""
    validation, test = (read_split(work / "splits", name) for name in ("validation", "test"))
    original = asked["bf16"].answers
    rows, before = Rows(validation, test, []), Scored(original, [])
    evaluated = {
        name: evaluate(before, Scored(one.answers, []), rows, SEED, ThresholdSpec()) for name, one in asked.items()
    }
    lines = [
        f"{len(test)} test rows, thresholds from {len(validation)} validation rows.",
        "",
        "| weights | MB | layer error, mean / worst | F1 (95 %) | drop (95 %) | same decision | ROC-AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in evaluated.items():
        lines.append(quality_row(name, result, results.get(name), results))
    return lines


def quality_row(
    name: str,
    result: EvaluationResult,
    quantized: QuantizationResult | None,
    results: dict[str, QuantizationResult],
) -> str:
    metrics, drop = result.metrics, result.drop
    size = quantized.size_bytes if quantized else next(iter(results.values())).original_size_bytes
    errors = f"{quantized.mean_error:.3f} / {quantized.max_error:.3f}" if quantized else ""
    cost = same = ""
    if quantized and drop:
        cost = f"{drop.f1_drop:+.3f} ({drop.f1_drop_low:+.3f} to {drop.f1_drop_high:+.3f})"
        same = f"{drop.agreement:.1%}"
    return (
        f"| {name} | {size / 1e6:.0f} | {errors} | {metrics.f1:.3f} ({metrics.f1_low:.3f}–{metrics.f1_high:.3f})"
        f" | {cost} | {same} | {metrics.roc_auc:.3f} |"
    )


def cost_table(asked: dict[str, Asked]) -> list[str]:
    """Load time and memory of each variant."""
    lines = ["| weights | runs as | load s | memory GiB | test rows/s, all at once |", "|---|---|---|---|---|"]
    for name, one in asked.items():
        figures = one.answers.figures
        lines.append(
            f"| {name} | {figures.weights} | {figures.load_seconds:.0f} | {figures.memory_bytes / 2**30:.2f}"
            f" | {figures.texts_per_second:.1f} |"
        )
    return lines


def speed_table(asked: dict[str, Asked]) -> list[str]:
    """Texts per second and p95 latency by length in characters, sixteen concurrent texts."""
    lines = ["| characters | " + " | ".join(f"{name}: texts/s, p95" for name in asked) + " |"]
    lines.append("|---" * (len(asked) + 1) + "|")
    for row in zip(*(one.buckets for one in asked.values()), strict=True):
        cells = [f"{bucket['textsPerSecond']:.1f}, {bucket['p95Seconds']:.2f} s" for bucket in row]
        lines.append(f"| {row[0]['name']} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
