"""Memory and speed of training on a GPU, in the shape of Gemma 2 2B: `make bench-gpu-training`.

The settings are those of manifests/samples/gpu.yaml and of the largest run on that model in gpu-original.yaml, each in
4 bit and in bf16, with and without gradient checkpointing. Weights are random, in the model's shape: bytes and seconds
are those of the real ones, losses say nothing. Rows, lengths and their order are those of a whole training; the first
step, which is the longest, sets the peak and is left out of the speed.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.training.tiny import forget_accelerator, last_adapter, untracked
from toxicity_api.spec import TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.engines.batches import count_steps
from toxicity_training.engines.rows import EpochRows, Row, build_rows
from toxicity_training.experiments.grid import merge_training, read_grid
from toxicity_training.model import add_lora, load_model
from toxicity_training.prompts import pad_id_of
from toxicity_training.sources.files import read_dataset
from toxicity_training.splits import sample
from toxicity_training.stage import engine, resolve_length

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "manifests/samples/gpu.yaml"
ORIGINAL = ROOT / "training-job/src/toxicity_training/configs/gpu-original.yaml"
ORIGINAL_RUN = "4 r 16, all modules, 1024"
GEMMA2_2B = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "max_position_embeddings": 8192,
}
"""The dimensions in google/gemma-2-2b's config.json."""
ADAPTER_BYTES = 4 * 4
"""Bytes per trained parameter: the parameter, its gradient and AdamW's two moments, all in fp32."""
WARM_UP_STEPS = 4
GB = 1e9


@dataclass(frozen=True)
class Variant:
    """Settings under a name; those of a group are compared with its first."""

    group: str
    name: str
    spec: TrainingSpec


@dataclass(frozen=True)
class Figures:
    """GB and rates of one training; `loaded` is what the base model takes, `adapter` what is kept to train."""

    loaded: float
    adapter: float
    allocated: float
    reserved: float
    samples: float
    tokens: float
    longest: tuple[int, int]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a model whose tokenizer is taken")
    parser.add_argument(
        "--rows", type=int, help="rows that the batches are planned from; all when it is not given"
    )
    parser.add_argument("--steps", type=int, default=24, help="optimizer steps of each variant")
    parser.add_argument("--only", default="", help="variants whose group or name holds this")
    options = parser.parse_args()
    examples = sample(read_dataset(options.dataset, "comment", "toxic"), options.rows, 1)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "gemma-2-2b-shaped"
        write_model(base, options.tokenizer)
        print(f"{device_name()}; {len(examples)} rows, {options.steps} steps each", flush=True)
        chosen = [one for one in variants() if options.only in f"{one.group} {one.name}"]
        for variant in chosen[:1]:  # kernels are loaded by their first use, which is no one's own cost
            measure(base, examples, variant.spec, WARM_UP_STEPS)
        group, first = "", 0.0
        for variant in chosen:
            figures = measure(base, examples, variant.spec, options.steps)
            if variant.group != group:
                group, first = variant.group, figures.samples if figures else 0.0
                print(header(group), flush=True)
            print(line(variant.name, figures, first), flush=True)
    return 0


def write_model(folder: Path, tokenizer: Path) -> None:
    """A model in the shape of Gemma 2 2B with random weights, made on the GPU, and the tokenizer of another."""
    import torch
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    AutoTokenizer.from_pretrained(tokenizer, local_files_only=True).save_pretrained(folder)
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Gemma2ForCausalLM(Gemma2Config(**GEMMA2_2B))
    torch.set_default_dtype(default)
    model.save_pretrained(folder)


def device_name() -> str:
    import torch

    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def variants() -> Iterator[Variant]:
    """The measured settings, in order."""
    import yaml

    of_sample = TrainingSpec.model_validate(yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["spec"]["training"])
    grid = read_grid(ORIGINAL)
    (run,) = (run for run in grid.runs if run.name == ORIGINAL_RUN)
    for group, spec in (
        (SAMPLE.name, of_sample),
        (f"{ORIGINAL.name}, run {run.name}", merge_training(grid.training, run)),
    ):
        for load4bit in (True, False):
            for checkpointing in (False, True):
                fields = {"load4bit": load4bit, "gradient_checkpointing": checkpointing}
                name = f"{'4 bit' if load4bit else 'bf16'}{', checkpointing' if checkpointing else ''}"
                yield Variant(group, name, spec.model_copy(update=fields))
        if spec is of_sample:
            yield Variant(group, "4 bit, engine loop", spec.model_copy(update={"engine": "loop"}))


def measure(base: Path, examples: Sequence[Example], spec: TrainingSpec, steps: int) -> Figures | None:
    """Figures of the first `steps` optimizer steps of a training; None when the GPU's memory did not suffice."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    forget_accelerator()
    try:
        return train(base, examples, spec, steps)
    except torch.cuda.OutOfMemoryError:
        return None


def train(base: Path, examples: Sequence[Example], spec: TrainingSpec, steps: int) -> Figures:
    """Loads, trains and measures like the stage."""
    import torch

    model, tokenizer = load_model(base, spec)
    loaded = torch.cuda.memory_allocated()
    spec = resolve_length(spec, tokenizer, list(examples))
    rows = build_rows(tokenizer, examples, spec)
    require_known(rows)
    per_epoch, _ = count_steps(len(rows), spec)
    spec = spec.model_copy(update={"epochs": min(spec.epochs, steps / per_epoch)})
    adapted = add_lora(model, spec)
    trainable, _ = adapted.get_nb_trainable_parameters()
    clock = Clock(spec.gradient_accumulation_steps)
    adapted.register_forward_pre_hook(clock.tick, with_kwargs=True)
    with tempfile.TemporaryDirectory() as checkpoints:
        engine(spec)(
            adapted,
            EpochRows(rows),
            pad_id_of(tokenizer),
            spec,
            Path(checkpoints),
            lambda line: None,
            last_adapter(spec, len(rows)),
            untracked(),
        )
    return Figures(
        loaded=loaded / GB,
        adapter=trainable * ADAPTER_BYTES / GB,
        allocated=torch.cuda.max_memory_allocated() / GB,
        reserved=torch.cuda.max_memory_reserved() / GB,
        samples=clock.rate(0),
        tokens=clock.rate(1),
        longest=clock.longest(),
    )


def require_known(rows: Sequence[Row]) -> None:
    """Stops the benchmark if the tokenizer has tokens that the model lacks."""
    largest = max(max(row["input_ids"]) for row in rows)
    if largest >= GEMMA2_2B["vocab_size"]:
        raise SystemExit(f"the tokenizer's token {largest} is none of the model's {GEMMA2_2B['vocab_size']}")


class Clock:
    """When each micro-batch begins on an idle GPU, and its rows and tokens."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._begun: list[float] = []
        self._sizes: list[tuple[int, int]] = []
        self._shapes: list[tuple[int, int]] = []

    def tick(self, _: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        import torch

        torch.cuda.synchronize()
        self._begun.append(time.perf_counter())
        mask = named["attention_mask"]
        self._sizes.append((mask.shape[0], int(mask.sum())))
        self._shapes.append((mask.shape[0], mask.shape[1]))

    def rate(self, what: int) -> float:
        """Rows (0) or tokens (1) a second, from the end of the warm-up to the begin of the last micro-batch."""
        sizes = self._sizes[self._warm_up : -1]
        return sum(size[what] for size in sizes) / (self._begun[-1] - self._begun[self._warm_up])

    def longest(self) -> tuple[int, int]:
        """Rows and columns of the largest micro-batch."""
        return max(self._shapes, key=lambda shape: shape[0] * shape[1])


def header(group: str) -> str:
    sizes = f"{'base':>7}{'adapter':>9}{'rest':>7}{'peak':>7}{'reserved':>10}"
    rates = f"{'samples/s':>11}{'tokens/s':>10}{'ratio':>7}"
    return f"\n{group}\n{'GB':<22}{sizes}{rates}  largest micro-batch"


def line(name: str, figures: Figures | None, first: float) -> str:
    """A row of the table; `rest` is what of the peak is neither the base nor kept for the adapter."""
    if figures is None:
        return f"{name:<22}out of memory"
    rest = figures.allocated - figures.loaded - figures.adapter
    sizes = f"{figures.loaded:>7.2f}{figures.adapter:>9.2f}{rest:>7.2f}{figures.allocated:>7.2f}"
    ratio = figures.samples / first if first else 1.0
    rates = f"{figures.samples:>11.1f}{figures.tokens:>10.0f}{ratio:>7.2f}"
    rows, columns = figures.longest
    return f"{name:<22}{sizes}{figures.reserved:>10.2f}{rates}  {rows} x {columns}"


if __name__ == "__main__":
    raise SystemExit(main())
