"""Merging an adapter preserves every output, or its targets are refused before the training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toxicity_api.spec import Lora, TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.errors import ModelError
from toxicity_training.model import add_lora, in_full, load_model, merge, save_adapter, save_merged
from toxicity_training.stage import run

pytestmark = [
    pytest.mark.engine,
    # what PEFT says of an adapter on the embeddings; these tests are about what becomes of it
    pytest.mark.filterwarnings(
        "ignore:Model (has|with) `tie_word_embeddings=True`", "ignore:Setting `save_embedding"
    ),
]

MakeSpec = Callable[..., TrainingSpec]
MakeConfig = Callable[..., TrainingConfig]
TARGETS = [
    ["all-linear"],
    ["q_proj", "v_proj"],
    ["down_proj"],
    ["lm_head"],
    ["embed_tokens"],
    ["model.embed_tokens"],
    ["embed_tokens", "lm_head"],
    ["q_proj", "lm_head"],
]
EMBEDDINGS = {"lm_head", "embed_tokens", "model.embed_tokens"}


@pytest.fixture
def untied_model(base_model: Path, tmp_path: Path) -> Path:
    """The tiny base model with untied output embeddings."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(base_model, tmp_path / "untied"))
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def logits(model: Any) -> Any:
    import torch

    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 14).unsqueeze(0)).logits.float()


def set_adapter(model: Any) -> None:
    """An adapter that changes every output; an untrained adapter is zero."""
    import torch

    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)


def trained_and_merged(folder: Path, spec: TrainingSpec, tmp_path: Path) -> tuple[Any, Any, Any]:
    """The logits of the base, of the adapted model, and of the merged model read from disk."""
    base, _ = load_model(folder, spec)
    untouched = logits(base)
    adapted = add_lora(base, spec)
    set_adapter(adapted)
    trained = logits(adapted)
    save_adapter(adapted, tmp_path / "adapter")
    merged, tokenizer = merge(folder, tmp_path / "adapter", spec)
    answers = logits(merged)
    save_merged(merged, tokenizer, tmp_path / "merged")
    read, _ = load_model(tmp_path / "merged", in_full(spec))
    assert logits(read).sub(answers).abs().max() < 0.2  # what bf16 rounds
    return untouched, trained, answers


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
def test_a_merge_of_an_untied_base_keeps_every_answer(
    untied_model: Path, make_spec: MakeSpec, tmp_path: Path, targets: list[str]
) -> None:
    spec = make_spec(lora=Lora(r=4, alpha=8, dropout=0.0, target_modules=targets))
    untouched, trained, merged = trained_and_merged(untied_model, spec, tmp_path)
    assert (trained - untouched).abs().max() > 0.1
    assert (merged - trained).abs().max() < 1e-4


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
def test_a_merge_of_a_tied_base_keeps_every_answer_or_is_refused(
    base_model: Path, make_spec: MakeSpec, tmp_path: Path, targets: list[str]
) -> None:
    spec = make_spec(lora=Lora(r=4, alpha=8, dropout=0.0, target_modules=targets))
    try:
        untouched, trained, merged = trained_and_merged(base_model, spec, tmp_path)
    except ModelError as error:
        assert error.reason == "UnknownTargetModules"
        assert set(targets) & EMBEDDINGS
        return
    assert (trained - untouched).abs().max() > 0.1
    assert (merged - trained).abs().max() < 1e-4


@pytest.mark.parametrize("engine", ["trainer", "loop"])
@pytest.mark.parametrize("four_bit", [False, True], ids=["whole", "4bit"])
@pytest.mark.parametrize("target", sorted(EMBEDDINGS))
def test_tied_targets_are_refused_by_their_field_with_the_remedy(
    make_config: MakeConfig, make_spec: MakeSpec, target: str, engine: str, *, four_bit: bool
) -> None:
    lora = Lora(r=4, alpha=8, dropout=0.0, target_modules=["q_proj", target])
    config = make_config(make_spec(engine=engine, load4bit=four_bit, lora=lora))
    with pytest.raises(ModelError, match=r"^training\.lora\.targetModules: .* shares its weight with") as caught:
        run(config)
    assert caught.value.reason == "UnknownTargetModules"
    assert "remove it, or use all-linear" in str(caught.value)
    assert not config.output_dir.exists()
