"""The precision of a training: what is computed in bf16, and that it trains and scores as fp32 does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.training.tiny import forget_accelerator, last_adapter, make_examples, untracked
from toxicity_api.spec import Lora, TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_training import model as models
from toxicity_training import stage
from toxicity_training.engines.rows import training_rows
from toxicity_training.evaluation.scoring import scores_of
from toxicity_training.precision import autocast, precision
from toxicity_training.prompts import pad_id_of

pytestmark = pytest.mark.engine

MakeSpec = Callable[..., TrainingSpec]
MakeConfig = Callable[..., TrainingConfig]
FROM_FP32 = 0.1
"""Tolerance of a loss near 1 to the one in fp32, over about ten steps at a high learning rate."""
OF_SCORES = 0.03
"""Tolerance of a score to the one in fp32: bf16 has two to three digits."""


def walk(base_model: Path, spec: TrainingSpec, checkpoints: Path) -> tuple[list[float], set[Any]]:
    """The losses of the spec's engine, and the types (of the adapter's weights, of its products)."""
    from transformers import set_seed

    forget_accelerator()
    set_seed(spec.seed)
    base, tokenizer = models.load_model(base_model, spec)
    adapted, seen = models.add_lora(base, spec), set()
    for name, part in adapted.named_modules():
        if name.endswith("lora_A.default"):
            part.register_forward_hook(lambda module, _, output: seen.add((module.weight.dtype, output.dtype)))
    rows = training_rows(tokenizer, make_examples(60), spec)
    best = last_adapter(spec, 60)
    return stage.engine(spec)(
        adapted, rows, pad_id_of(tokenizer), spec, checkpoints, print, best, untracked()
    ), seen


@pytest.mark.parametrize(
    "fields",
    [{"engine": "trainer"}, {"engine": "loop"}, {"load4bit": True}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_training_in_bf16_computes_products_in_bf16_and_walks_near_fp32(
    base_model: Path, make_spec: MakeSpec, tmp_path: Path, fields: dict[str, object]
) -> None:
    import torch

    whole, in_fp32 = walk(base_model, make_spec(precision="fp32", **fields), tmp_path / "fp32")
    half, in_bf16 = walk(base_model, make_spec(precision="bf16", **fields), tmp_path / "bf16")
    assert in_fp32 == {(torch.float32, torch.float32)}
    assert in_bf16 == {(torch.float32, torch.bfloat16)}
    assert half == pytest.approx(whole, abs=FROM_FP32)
    assert half != whole
    assert half[-1] < half[0] - 0.3


def test_unset_precision_is_bf16_where_the_cpu_has_instructions_for_it(make_spec: MakeSpec) -> None:
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    expected = "bf16" if {"avx512_bf16", "amx_bf16"}.intersection(flags) else "fp32"
    assert precision(make_spec(precision=None)) == expected
    assert precision(make_spec(precision=None, load4bit=True)) == "fp32"
    assert precision(make_spec(precision=None, gpus=1)) == "bf16"
    assert precision(make_spec(precision="fp32", gpus=1)) == "fp32"


def test_stage_in_bf16_publishes_a_model_that_scores_as_in_fp32(
    make_config: MakeConfig, make_spec: MakeSpec
) -> None:
    spec = make_spec(precision="bf16", epochs=12, lora=Lora(r=16, alpha=32))
    config = make_config(spec, rows=300)
    result = stage.run(config)
    assert result is not None
    assert result.outcome == "succeeded"
    model, tokenizer = models.load_model(config.output_dir / "model", models.in_full(spec))
    texts = [example.text for example in make_examples(40, seed=5)]
    whole = scores_of(model, tokenizer, texts, spec)
    with autocast(spec):
        half = scores_of(model, tokenizer, texts, spec)
    assert half == pytest.approx(whole, abs=OF_SCORES)
    assert half != whole
    assert max(whole) - min(whole) > 0.5  # it tells them apart
