"""What 4 bit costs and brings, by backend and group size, in the serving engine: `make bench-quantization`.

Takes the folder that a training stage left (`make quality` leaves one), runs the quantization stage and the evaluation
stage as their containers would, each with its image's packages, and prints two tables: quality and size of every
variant, and speed by length of the unquantized and the quantized weights. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxicity_api.results import EvaluationResult, QuantizationResult, StageResult
from toxicity_api.spec import Labels, QuantizationSpec, TrainingSpec
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, EngineConfig, EvaluationConfig, QuantizationConfig
from toxicity_training.artifacts import succeeded_result
from toxicity_training.data import Splits, read_split, sample, write_splits

VARIANTS = (("llm-compressor", 32), ("llm-compressor", 64), ("llm-compressor", 128), ("autoawq", 128))
PARTS = {"llm-compressor": "quantization", "autoawq": "quantization-autoawq"}
STAGE_ROWS = 60
"""Rows that the quantization stage itself scores, by Transformers; the tables' figures come from the whole split."""
SPEED = Path(__file__).with_name("speed_by_length.py")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True, help="a training stage's folder")
    parser.add_argument("--work", type=Path, required=True, help="where the variants are kept")
    parser.add_argument("--validation-rows", type=int, default=400, help="rows the thresholds are chosen on")
    options = parser.parse_args()
    prepare(options.trained, options.work, options.validation_rows)
    results = [run_variant(options.work, backend, group) for backend, group in VARIANTS]
    print("\n".join(quality_table(results)))
    folders = {"bf16": trained_folder(options.work)}
    folders |= {
        f"4 bit {backend} {group}": folder(options.work, backend, group) for backend, group in VARIANTS[-2:]
    }
    print("\n".join(speed_tables(options.work, folders)))
    return 0


def trained_folder(work: Path) -> Path:
    return work / "train-genuine"


def fingerprint(backend: str, group_size: int) -> str:
    return f"{backend}-{group_size}"


def folder(work: Path, backend: str, group_size: int) -> Path:
    return work / f"quantize-{fingerprint(backend, group_size)}"


def prepare(trained: Path, work: Path, validation_rows: int) -> None:
    """The training's folder with few rows to score for the quantization stage, and the splits of the evaluation."""
    target = trained_folder(work)
    whole = Splits(*(read_split(trained / "splits", name) for name in ("train", "validation", "test")))
    write_splits(
        Splits(whole.train, sample(whole.validation, validation_rows, seed=1), whole.test), work / "splits"
    )
    if target.exists():
        return
    shutil.copytree(trained / "model", target / "model")
    shutil.copy2(trained / "result.json", target / "result.json")
    few = (sample(rows, STAGE_ROWS, seed=1) for rows in (whole.validation, whole.test))
    write_splits(Splits(whole.train, *few), target / "splits")


def run_variant(work: Path, backend: str, group_size: int) -> tuple[QuantizationResult, EvaluationResult]:
    """The quantization's and the evaluation's results, from their folders where they are there."""
    name = fingerprint(backend, group_size)
    training = TrainingSpec(gpus=0)
    quantization = QuantizationConfig(
        model="bench",
        fingerprint=name,
        artifacts=work,
        training_fingerprint="genuine",
        training=training,
        quantization=QuantizationSpec.model_validate({"gpus": 0, "backend": backend, "groupSize": group_size}),
    )
    quantized = run_stage("toxicity_quantization", PARTS[backend], quantization)
    evaluation = EvaluationConfig(
        model="bench",
        fingerprint=name,
        artifacts=work,
        served=engine_config(quantization.output_dir, training.labels, training.prompt_template),
        original=engine_config(quantization.input_dir, training.labels, training.prompt_template),
        splits_dir=work / "splits",
        seed=training.seed,
    )
    evaluated = run_stage("toxicity_evaluation", "serving", evaluation)
    assert quantized.quantization is not None and evaluated.evaluation is not None
    return quantized.quantization, evaluated.evaluation


def engine_config(stage: Path, labels: Labels, template: str) -> EngineConfig:
    return EngineConfig(
        model="bench",
        fingerprint=stage.name,
        model_dir=stage / "model",
        prompt_template=template,
        labels=labels,
        max_num_seqs=16,
    )


def run_stage(module: str, part: str, config: QuantizationConfig | EvaluationConfig) -> StageResult:
    """The stage's result; the stage runs, with the packages of the image `part`, unless its folder is there."""
    done = succeeded_result(config.output_dir)
    if done is None:
        log = config.artifacts / f"{config.output_dir.name}.termination"
        environment = os.environ | {STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)}
        in_environment(part, ["-m", module, "--termination-log", str(log)], environment)
        done = succeeded_result(config.output_dir)
    if done is None:
        raise SystemExit(f"{config.output_dir} was not made; see what {module} said")
    return done


def in_environment(part: str, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Standard output of Python with the packages of the image `part`; it is shown as it comes on standard error."""
    command = [sys.executable, "-m", "toxicity_cluster", "environment", part, "--", "python", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return "".join(lines)


def quality_table(results: Sequence[tuple[QuantizationResult, EvaluationResult]]) -> list[str]:
    """Markdown: the unquantized weights, then each variant."""
    original = results[0][1].original_metrics
    assert original is not None
    lines = [
        "| weights | group | MB | mean / worst layer error | F1 (95 %) | drop (95 %) | same decision | ROC-AUC |",
        "|---|---|---|---|---|---|---|---|",
        f"| bf16 | | {results[0][0].original_size_bytes / 1e6:.0f} | | {original.f1:.3f}"
        f" ({original.f1_low:.3f}–{original.f1_high:.3f}) | | | {original.roc_auc:.3f} |",
    ]
    for (backend, group), (quantized, evaluated) in zip(VARIANTS, results, strict=True):
        metrics, drop = evaluated.metrics, evaluated.drop
        assert drop is not None
        lines.append(
            f"| {backend} | {group} | {quantized.size_bytes / 1e6:.0f}"
            f" | {quantized.mean_error:.3f} / {quantized.max_error:.3f}"
            f" | {metrics.f1:.3f} ({metrics.f1_low:.3f}–{metrics.f1_high:.3f})"
            f" | {drop.f1_drop:+.3f} ({drop.f1_drop_low:+.3f} to {drop.f1_drop_high:+.3f})"
            f" | {drop.agreement:.1%} | {metrics.roc_auc:.3f} |"
        )
    return lines


def speed_tables(work: Path, folders: dict[str, Path]) -> list[str]:
    """Markdown: load time and memory of each, then texts per second and p95 by length; measured now, one by one."""
    arguments = [f"{name}={stage / 'model'}" for name, stage in folders.items()]
    output = in_environment(
        "serving", [str(SPEED), "--splits", str(work / "splits"), *arguments], dict(os.environ)
    )
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in output.splitlines() if line.startswith('{"weights"')
    ]
    lines = ["", "| weights | runs as | load s | memory GiB |", "|---|---|---|---|"]
    lines += [
        f"| {row['weights']} | {row['form']} | {row['loadSeconds']:.0f} | {row['memoryBytes'] / 2**30:.2f} |"
        for row in rows
    ]
    lines += ["", "| characters | " + " | ".join(f"{row['weights']}: texts/s, p95" for row in rows) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    for index, bucket in enumerate(rows[0]["buckets"]):
        cells = [
            f"{row['buckets'][index]['textsPerSecond']:.1f}, {row['buckets'][index]['p95Seconds']:.2f} s"
            for row in rows
        ]
        lines.append(f"| {bucket['name']} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
