"""The whole training stage on a tiny model: the published folder, and the errors for invalid input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.training.gpu_device import narrower_than_a_block, on_cpu_and_gpu
from support.training.stage_process import loss_values
from support.training.tiny import ALIKE, SPELLED
from toxicity_api.normal_form.folder import read_normal_form
from toxicity_api.results import TERMINATION_MESSAGE_LIMIT
from toxicity_api.spec import Labels, Lora, TrainingSpec
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, TrainingConfig
from toxicity_stage.artifacts import read_result
from toxicity_stage.errors import InputError
from toxicity_training.dataset import Example
from toxicity_training.engines.rows import build_rows
from toxicity_training.splits import read_split
from toxicity_training.stage import run

pytestmark = pytest.mark.engine

MakeSpec = Callable[..., TrainingSpec]
MakeConfig = Callable[..., TrainingConfig]


def test_names_of_control_tokens_in_a_comment_are_trained_as_characters(
    base_model: Path, make_spec: MakeSpec
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    spelled, alike = (build_rows(tokenizer, [Example(text, True)], make_spec()) for text in (SPELLED, ALIKE))
    assert spelled == alike


def test_texts_are_trained_in_the_normal_form_that_the_stage_is_asked_for(
    base_model: Path, make_spec: MakeSpec
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    texts = ["ты дурак", " т\u200bы дура\u0301к\n", "ты дyрак"]
    rows = [build_rows(tokenizer, [Example(text, True)], make_spec(normal_form=1)) for text in texts]
    assert rows[0] == rows[1] == rows[2]
    older = [build_rows(tokenizer, [Example(text, True)], make_spec()) for text in texts]
    assert older[0] == rows[0] and older[1] != older[0]


@on_cpu_and_gpu
def test_the_published_folder_is_whole(make_config: MakeConfig, make_spec: MakeSpec) -> None:
    config = make_config(
        make_spec(epochs=12, lora=Lora(r=16, alpha=32, dropout=0), max_input_length="auto", normal_form=1),
        rows=300,
    )
    result = run(config)
    assert result is not None
    assert read_result(config.output_dir) == result
    assert len(result.to_termination_message().encode()) <= TERMINATION_MESSAGE_LIMIT
    training = result.training
    assert training is not None
    assert training.metrics.f1 > 0.9  # an insult is easy to see
    assert training.data is not None
    assert (training.data.rows, training.data.toxic) == (300, 100)
    assert 20 < (training.max_input_length or 0) < 40
    folder = config.output_dir
    assert training.normal_form == read_normal_form(folder / "model") == 1
    assert {path.name for path in folder.iterdir()} == {
        "adapter", "eda", "evaluation", "losses.csv", "model", "result.json", "splits", "validation.csv",
    }  # fmt: skip
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| F1 of the toxic class | {training.metrics.f1:.3f} |" in card
    assert len((folder / "losses.csv").read_text().splitlines()) == 1 + 12 * 27
    assert len(read_split(folder / "splits", "train")) == training.train_samples
    assert {path.name for path in (folder / "eda").iterdir()} == {
        "eda.json", "labels.png", "labels_len.png", "len_text_chars.png", "len_text_tokens.png",
    }  # fmt: skip
    assert {path.name for path in (folder / "evaluation").iterdir()} == {
        "errors.csv", "evaluation.json", "f1_by_length.png", "pr_curve.png", "reliability.png",
    }  # fmt: skip


@on_cpu_and_gpu
def test_merged_weights_are_plain_bf16_safetensors_that_score_like_the_adapter(
    make_config: MakeConfig, make_spec: MakeSpec, gpus: int
) -> None:
    import torch
    from peft import PeftModel
    from safetensors import safe_open

    from toxicity_training.evaluation.scoring import score_texts
    from toxicity_training.model import load_model

    spec = make_spec(epochs=12, lora=Lora(r=16, alpha=32, dropout=0))
    config = make_config(spec, rows=300)
    run(config)
    model_folder = config.output_dir / "model"
    assert not list(model_folder.glob("*.bin"))
    with safe_open(model_folder / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
        assert not [key for key in weights.keys() if "lora" in key]  # noqa: SIM118
    base, tokenizer = load_model(config.base_model_path, spec)
    adapted = PeftModel.from_pretrained(base, config.output_dir / "adapter")
    merged, _ = load_model(model_folder, spec)
    texts = [example.text for example in read_split(config.output_dir / "splits", "test")]
    options: dict[str, Any] = {"template": config.training.prompt_format, "labels": spec.labels, "max_tokens": 128}
    expected = score_texts(adapted, tokenizer, texts, batch_size=4, **options)
    assert score_texts(merged, tokenizer, texts, batch_size=4, **options) == pytest.approx(
        expected, abs=0.1 if gpus else 0.03
    )  # fp32 computes with bf16 weights on the CPU, bf16 itself on a GPU
    assert max(expected) - min(expected) > 0.5


@pytest.mark.parametrize(
    ("lora", "written"),
    [
        (Lora(r=3, alpha=5), {"r": 3, "lora_alpha": 5, "bias": "none", "init_lora_weights": True}),
        (Lora(init_weights="gaussian", bias="all"), {"init_lora_weights": "gaussian", "bias": "all"}),
        (Lora(dropout=0.25, target_modules=["q_proj", "v_proj"]), {"lora_dropout": 0.25}),
    ],
)
def test_lora_fields_reach_peft(
    make_config: MakeConfig, make_spec: MakeSpec, lora: Lora, written: dict[str, object]
) -> None:
    config = make_config(make_spec(lora=lora))
    run(config)
    adapter = json.loads((config.output_dir / "adapter" / "adapter_config.json").read_text())
    assert adapter["task_type"] == "CAUSAL_LM"
    assert {key: adapter[key] for key in written} == written
    if lora.target_modules != ["all-linear"]:
        assert sorted(adapter["target_modules"]) == sorted(lora.target_modules)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"labels": Labels(toxic="да", non_toxic="да нет")}, "LabelsNotDistinct", "training.labels"),
        ({"labels": Labels(toxic="да да да да", non_toxic="нет")}, "LabelTooLong", "training.maxTargetLength"),
        ({"lora": Lora(target_modules=["no_such"])}, "UnknownTargetModules", "training.lora.targetModules"),
        (
            {"prompt_template": "ответ: " * 9 + "{text}", "max_input_length": 16},
            "PromptTooLong",
            "training.maxInputLength",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_its_name(
    make_config: MakeConfig, make_spec: MakeSpec, fields: dict[str, object], reason: str, field: str
) -> None:
    config = make_config(make_spec(**fields))
    with pytest.raises(InputError, match=field.replace(".", r"\.")) as caught:
        run(config)
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["trainer", "loop"])
def test_two_processes_train_as_one_with_their_batches_together(
    make_config: MakeConfig, make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    # 112 training rows: whole steps, since accelerate fills up a step that not every process has rows for
    alone = make_config(make_spec(engine=name, batch_size=8), rows=160, fingerprint="alone")
    together = make_config(make_spec(engine=name, batch_size=4), rows=160, fingerprint="together")
    run(alone)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "toxicity_training", "--termination-log", str(tmp_path / "log")]
    variables = {STAGE_CONFIG_VARIABLE: together.model_dump_json(by_alias=True), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env={**os.environ, **variables}, check=True, timeout=300)
    assert loss_values(together) == pytest.approx(loss_values(alone), abs=1e-4)
    assert json.loads((tmp_path / "log").read_text())["outcome"] == "succeeded"


@narrower_than_a_block
@on_cpu_and_gpu
def test_a_base_in_four_bit_trains_and_merges_into_whole_weights(
    make_config: MakeConfig, make_spec: MakeSpec
) -> None:
    import torch
    from safetensors import safe_open

    config = make_config(make_spec(load4bit=True, epochs=2))
    result = run(config)
    assert result is not None
    with (
        safe_open(config.output_dir / "model" / "model.safetensors", framework="pt") as merged,
        safe_open(config.base_model_path / "model.safetensors", framework="pt") as base,
    ):
        assert sorted(merged.keys()) == sorted(base.keys())
        query = "model.layers.0.self_attn.q_proj.weight"
        changed = merged.get_tensor(query).float() - base.get_tensor(query).to(torch.bfloat16).float()
        # what the adapter adds has its rank; had the base kept its four bits, every row would have been rounded
        assert torch.linalg.matrix_rank(changed, atol=0.05) <= config.training.lora.r
        assert changed.abs().max() > 0


@pytest.mark.parametrize("name", ["trainer", "loop"])
def test_the_model_in_four_bit_is_gone_before_the_whole_base_is_loaded(
    make_config: MakeConfig, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import gc

    from bitsandbytes.nn import Params4bit

    from toxicity_training import model as models

    load, left = models.load_model, []

    def count_and_load(folder: Path, spec: TrainingSpec) -> tuple[Any, Any]:
        left.append(sum(type(each) is Params4bit for each in gc.get_objects()))
        return load(folder, spec)

    monkeypatch.setattr(models, "load_model", count_and_load)
    gc.collect()  # of earlier tests
    run(make_config(make_spec(load4bit=True, engine=name)))
    assert left == [0, 0, 0]  # to train, to merge, to evaluate


def test_the_figures_are_those_of_the_saved_weights(make_config: MakeConfig, make_spec: MakeSpec) -> None:
    from toxicity_training.evaluation.measure import measure
    from toxicity_training.model import load_model

    # a low learning rate: the scores stay close together, so that rounding the weights changes the figures
    spec = make_spec(learning_rate=2e-3)
    config = make_config(spec, rows=300)
    result = run(config)
    assert result is not None and result.training is not None
    model, tokenizer = load_model(config.output_dir / "model", spec)
    splits = (read_split(config.output_dir / "splits", name) for name in ("validation", "test"))
    assert measure(model, tokenizer, *splits, spec, print).metrics == result.training.metrics


def test_a_base_in_four_bit_keeps_its_embedding_in_bf16(base_model: Path, make_spec: MakeSpec) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from toxicity_training.model import add_lora

    # as a GPU gets it: on the CPU a base is loaded in fp32, of which nothing is cast
    base = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.bfloat16)
    adapted = add_lora(base, make_spec(gpus=1, load4bit=True))
    embedding, output = adapted.get_input_embeddings().weight, adapted.get_output_embeddings().weight
    assert (embedding.dtype, embedding.requires_grad) == (torch.bfloat16, False)
    assert output.data_ptr() == embedding.data_ptr()  # tied as before: one matrix, held once
    assert adapted.model.model.norm.weight.dtype == torch.float32
