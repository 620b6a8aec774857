"""A model broken before or by the stage fails permanently with the reason and publishes no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, QuantizationConfig
from toxicity_quantization import stage
from toxicity_quantization.__main__ import main
from toxicity_quantization.backends import BACKENDS
from toxicity_quantization.packing import Packing

pytestmark = pytest.mark.engine

MakeConfig = Callable[..., QuantizationConfig]
EditJson = Callable[[Path, Callable[[dict[str, Any]], None]], None]
Breaks = Callable[[Path, EditJson, Packing], None]
DOWN = "model.layers.1.mlp.down_proj"
COMPLETE = stage.complete


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def drop_config(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_json(folder / "config.json", lambda config: config.pop("quantization_config"))


def swap_tokenizer(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    def swap(tokenizer: dict[str, Any]) -> None:
        words = tokenizer["model"]["vocab"]
        words["да"], words["нет"] = words["нет"], words["да"]

    edit_json(folder / "tokenizer.json", swap)


def zero_scales(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_weights(folder, lambda tensors: tensors[DOWN + packing.scale].zero_())


def zero_numbers(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    def zero(tensors: dict[str, Any]) -> None:
        tensors[DOWN + packing.numbers].zero_()
        tensors[DOWN + packing.zero_point].zero_()

    edit_weights(folder, zero)


def infinite_scale(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_weights(folder, lambda tensors: tensors[DOWN + packing.scale].fill_(float("inf")))


def overflowing_norm(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(3e38))


def fatten(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    import torch

    def add(tensors: dict[str, Any]) -> None:
        tensors[f"{DOWN}.weight_g_idx"] = torch.zeros((256, 256), dtype=torch.int32)

    edit_weights(folder, add)


def zero_layer(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_weights(folder, lambda tensors: tensors[f"{DOWN}.weight"].zero_())


def infinite_layer(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_weights(folder, lambda tensors: tensors[f"{DOWN}.weight"].fill_(float("nan")))


def other_architecture(folder: Path, edit_json: EditJson, packing: Packing) -> None:
    edit_json(folder / "config.json", lambda config: config.update(architectures=["GPT2LMHeadModel"]))


def failure(config: QuantizationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The result of a permanent failure, in the termination message and as the only file of the folder."""
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, config.model_dump_json(by_alias=True))
    assert main(["--termination-log", str(tmp_path / "log")]) == EXIT_INVALID_INPUT
    assert [path.name for path in config.output_dir.iterdir()] == ["result.json"]
    assert len(list(config.artifacts.iterdir())) == 2
    written: dict[str, str] = json.loads((tmp_path / "log").read_text(encoding="utf-8"))
    assert (written["outcome"], written["fingerprint"]) == ("failed", config.fingerprint)
    return written


@pytest.mark.parametrize(
    ("breaks", "reason", "words"),
    [
        (drop_config, "QuantizationConfigMissing", "config.json has no quantization_config"),
        (swap_tokenizer, "LabelTokensChanged", "the model was trained on"),
        (zero_scales, "DeadScale", f"{DOWN}.{{scale}}"),
        (zero_numbers, "WeightsLost", f"{DOWN} with inf"),
        (infinite_scale, "WeightsNotFinite", f"{DOWN}.{{scale}}"),
        (overflowing_norm, "ScoresNotFinite", "not finite"),
        (fatten, "WeightsNotShrunk", "at most 0.4 is expected"),
    ],
)
def test_a_checkpoint_that_came_out_broken_is_refused(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit_json: EditJson,
    packing: Packing,
    breaks: Breaks,
    reason: str,
    words: str,
) -> None:
    def complete_and_break(folder: Path, source: Path) -> None:
        COMPLETE(folder, source)
        breaks(folder, edit_json, packing)

    monkeypatch.setattr(stage, "complete", complete_and_break)
    written = failure(make_config(), tmp_path, monkeypatch)
    assert written["reason"] == reason
    assert words.format(scale=packing.scale.removeprefix(".")) in written["message"]
    assert "quantization.method: none" in written["message"]


def test_weights_that_were_left_whole_are_refused(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete_with_whole_weights(folder: Path, source: Path) -> None:
        COMPLETE(folder, source)
        shutil.copyfile(source / "model.safetensors", folder / "model.safetensors")

    monkeypatch.setattr(stage, "complete", complete_with_whole_weights)
    written = failure(make_config(), tmp_path, monkeypatch)
    assert written["reason"] == "LayersNotQuantized"
    assert "0 linear layers are quantized" in written["message"]


@pytest.mark.parametrize(
    ("breaks", "reason", "words"),
    [
        (zero_layer, "DeadLayer", f"{DOWN}.weight of the merged model is zero throughout; train again"),
        (infinite_layer, "WeightsNotFinite", f"{DOWN}.weight of the merged model"),
        (other_architecture, "ArchitectureUnknown", "cannot quantize GPT2LMHeadModel; choose a baseModel that is"),
    ],
)
def test_a_model_that_came_in_broken_is_refused_before_any_work(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit_json: EditJson,
    packing: Packing,
    breaks: Breaks,
    reason: str,
    words: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model must not be loaded")

    config = make_config()
    monkeypatch.setattr(BACKENDS[config.quantization.backend], "load", never)
    breaks(config.input_dir / "model", edit_json, packing)
    written = failure(config, tmp_path, monkeypatch)
    assert written["reason"] == reason
    assert words in written["message"]
    if reason == "ArchitectureUnknown":
        assert f"quantization.backend: {config.quantization.backend} cannot" in written["message"]
        assert "Gemma3ForCausalLM" in written["message"]


def test_a_group_size_that_does_not_fit_is_refused(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = failure(make_config(group_size=128), tmp_path, monkeypatch)
    assert written["reason"] == "GroupSizeDoesNotFit"
