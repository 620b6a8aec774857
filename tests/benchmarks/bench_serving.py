"""Compare our API, vLLM called directly and Transformers on the same weights and machine, as one table.

Run `make bench-serving` on an otherwise idle machine. Each variant runs in a separate process, one after the other.
Only the ratios carry over to other machines.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from benchmarks import serving_phases
from benchmarks.serving_phases import BATCH, Lone, Service, Speed
from toxicity_api.checksums import verify_checksums, write_checksums
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import COMPILED_FILE, CompiledCode, ServingConfig
from toxicity_serving.engine.compiled import CACHE_VARIABLE, pack
from toxicity_serving.engine.vllm import set_vllm_environment
from toxicity_serving.engine.weights import default_scratch, prepare_weights, read_machine

LENGTHS = (50, 100, 200, 400, 600, 800, 1000)
SEED = 42
T = TypeVar("T")


def main() -> int:
    options = parse()
    set_vllm_environment(os.environ, options.gpus)
    texts = read_texts(options.dataset, options.column)
    random.Random(SEED).shuffle(texts)
    chosen = texts[: options.texts]
    lengths = {length: texts_of(texts, length, options.lone) for length in LENGTHS}
    config = configuration(options)
    dtype = prepare_weights(config.model_dir, default_scratch(), read_machine(options.gpus)).plan.dtype
    folder = Path(tempfile.mkdtemp(prefix="bench-serving-"))
    os.environ[CACHE_VARIABLE] = str(folder / "first")
    starts = {
        "eager": apart(serving_phases.measure_start, config.model_copy(update={"enforce_eager": True})),
        "compiles by itself": apart(serving_phases.measure_start, config),
    }
    digest = pack(folder / "first", folder / COMPILED_FILE)
    assert digest is not None
    compiled = config.model_copy(update={"compiled": CompiledCode(path=folder / COMPILED_FILE, sha256=digest)})
    os.environ[CACHE_VARIABLE] = str(folder / "second")
    service = apart(
        serving_phases.measure_service, compiled, chosen, lengths, chosen[: options.same], options.rounds
    )
    vllm_serve = apart(serving_phases.measure_vllm_serve, config, chosen, options.rounds)
    starts["takes over what was compiled"] = service.batches.load_seconds
    ways: dict[str, dict[str, object]] = {"compiled": {}, "eager": {"enforce_eager": True}}
    direct = {
        name: apart(serving_phases.measure_direct, config, chosen, options.rounds, overrides)
        for name, overrides in ways.items()
    }
    plain = apart(serving_phases.measure_transformers, config, chosen, options.rounds, dtype)
    float32 = {"dtype": "float32", "enforce_eager": True}
    exact = apart(serving_phases.measure_direct, config, chosen, 1, float32)
    exact_plain = apart(serving_phases.measure_transformers, config, chosen, 1, "float32")
    print(
        f"\n{len(chosen)} texts, {options.rounds} rounds, {machine(options.gpus)}, {dtype}, {config.model_dir}\n"
    )
    print(speeds(service, vllm_serve, direct, plain))
    print(f"CPU time of the API's thread: {1000 * service.api_seconds:.2f} ms per request with one text\n")
    print(table(["start of the service", "ready after, s"], [[name, f"{s:.1f}"] for name, s in starts.items()]))
    print(latencies(service))
    print(
        agreements(
            {
                f"our API, Transformers one by one, both {dtype}": (service.batches.scores, plain[1].scores),
                f"Transformers in batches, one by one, both {dtype}": (plain[32].scores, plain[1].scores),
                "vLLM directly, Transformers one by one, both float32": (exact.scores, exact_plain[1].scores),
                f"our API {dtype}, Transformers float32": (service.batches.scores, exact_plain[1].scores),
                f"Transformers {dtype}, float32": (plain[1].scores, exact_plain[1].scores),
            },
            options.threshold,
        )
    )
    print(sameness(service.lone))
    print(measure_checksums(config.model_dir))
    shutil.rmtree(folder)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True, help="model folder of a training stage")
    parser.add_argument("--dataset", type=Path, required=True, help="CSV, also .gz, with genuine texts")
    parser.add_argument("--column", default="comment")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lone", type=int, default=20, help="requests per length for the latencies")
    parser.add_argument("--same", type=int, default=10, help="texts tried alone and in batches")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--gpus", type=int, default=0)
    options = parser.parse_args()
    if "quantization_config" in json.loads((options.model_dir / "config.json").read_text(encoding="utf-8")):
        # there are no kernels for these in float32, which shows the cost of bf16 alone
        parser.error(f"--model-dir: {options.model_dir} has quantized weights; give the training stage's model")
    return options


def configuration(options: argparse.Namespace) -> ServingConfig:
    training = TrainingSpec()
    return ServingConfig(
        model="bench",
        fingerprint="bench",
        model_dir=options.model_dir,
        prompt_template=training.prompt_template,
        labels=training.labels,
        threshold=options.threshold,
        gpus=options.gpus,
    )


def machine(gpus: int) -> str:
    """Describe the hardware: the number of cores, and the name of the GPU if one is used."""
    if not gpus:
        return f"{os.cpu_count()} cores"
    import torch

    return f"{os.cpu_count()} cores, {torch.cuda.get_device_name()}"


def apart(phase: Callable[..., T], *arguments: object) -> T:
    """Run `phase` in a new process, without the threads and memory of the previous one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(phase, *arguments).result()


def read_texts(path: Path, column: str) -> list[str]:
    """Read the texts that are not blank."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    return [row[column].strip() for row in csv.DictReader(io.StringIO(text, newline="")) if row[column].strip()]


def texts_of(texts: Sequence[str], length: int, count: int) -> list[str]:
    """Return `count` texts of exactly `length` characters, cut from the joined texts of the data set."""
    whole = " ".join(texts)
    return [whole[at * length : (at + 1) * length] for at in range(count)]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def speeds(
    service: Service, vllm_serve: tuple[Speed, Speed], direct: dict[str, Speed], plain: dict[int, Speed]
) -> str:
    ways = {
        f"our API, {BATCH} texts a request": service.batches,
        "our API, one text a request": service.singles,
        "toxicity-score, from file to file": service.bulk,
        f"vllm serve, {BATCH} texts a request": vllm_serve[1],
        "vllm serve, one text a request": vllm_serve[0],
        "vLLM directly": direct["compiled"],
        "vLLM directly, eager": direct["eager"],
        "Transformers, one by one": plain[1],
        "Transformers, batches of 32 by length": plain[32],
    }
    base, one = statistics.median(direct["compiled"].rates), statistics.median(plain[1].rates)
    rows = [
        [
            name,
            f"{(median := statistics.median(speed.rates)):.1f}",
            f"{min(speed.rates):.1f}-{max(speed.rates):.1f}",
            f"{median / base:.2f}",
            f"{median / one:.2f}",
            f"{speed.load_seconds:.1f}",
        ]
        for name, speed in ways.items()
    ]
    return table(["way", "texts/s", "range", "of vLLM directly", "of one by one", "load, s"], rows)


def latencies(service: Service) -> str:
    """Return latencies of sequential requests."""
    rows = []
    for length, seconds in service.latencies.items():
        p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
        rows.append([str(length), str(len(seconds)), f"{statistics.median(seconds):.3f}", f"{p95:.3f}"])
    return table(["characters", "requests", "p50, s", "p95, s"], rows)


def agreements(pairs: dict[str, tuple[Sequence[float], Sequence[float]]], threshold: float) -> str:
    rows = [[name, *agreement(ours, theirs, threshold)] for name, (ours, theirs) in pairs.items()]
    heads = ["scores of", "largest difference", "99 of 100", "mean", "within 0.01", "same decision"]
    return table(heads, rows)


def agreement(ours: Sequence[float], theirs: Sequence[float], threshold: float) -> list[str]:
    differences = sorted(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    count = len(differences)
    within = sum(difference <= 0.01 for difference in differences) / count
    same = sum((a >= threshold) == (b >= threshold) for a, b in zip(ours, theirs, strict=True)) / count
    figures = [differences[-1], differences[int(0.99 * (count - 1))], statistics.fmean(differences)]
    return [*(f"{figure:.1e}" for figure in figures), f"{100 * within:.1f} %", f"{100 * same:.1f} %"]


def sameness(lone: Sequence[Lone]) -> str:
    copies = max(max(abs(score - found.alone) for score in found.copies) for found in lone)
    within = max(max(found.copies) - min(found.copies) for found in lone)
    amid = max(abs(found.amid - found.alone) for found in lone)
    return (
        f"{len(lone)} texts alone and {BATCH} times in one request: largest difference {copies:.2e}, within the request"
        f" {within:.2e}; alone and amid {BATCH - 1} others: {amid:.2e}\n"
    )


def measure_checksums(folder: Path) -> str:
    """Measure how long it takes to write and to verify the checksums of a model folder."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(folder, Path(scratch, "model")))
        began = time.perf_counter()
        write_checksums(copy)
        written = time.perf_counter() - began
        began = time.perf_counter()
        assert verify_checksums(copy)
        checked = time.perf_counter() - began
        size = sum(path.stat().st_size for path in copy.rglob("*"))
    return f"checksums of {size / 1e6:.0f} MB: written in {written:.2f} s, checked in {checked:.2f} s\n"


if __name__ == "__main__":
    raise SystemExit(main())
