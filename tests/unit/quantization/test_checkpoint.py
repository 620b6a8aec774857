"""A model that cannot be quantized is refused at once: missing weights, unsupported architecture or shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.backends import BACKENDS
from toxicity_quantization.checkpoint import read_config, weights_bytes
from toxicity_quantization.refusals import refuse_architecture, refuse_group_size
from toxicity_quantization.with_autoawq import refuse_rows
from toxicity_stage.errors import ModelError


def checkpoint(folder: Path, config: dict[str, object], *sizes: int) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(b"x" * 1000)
    for index, size in enumerate(sizes):
        (folder / f"model-{index}.safetensors").write_bytes(b"w" * size)
    return folder


def test_weights_bytes_sums_the_shards_and_nothing_else(tmp_path: Path) -> None:
    assert weights_bytes(checkpoint(tmp_path, {}, 10, 7)) == 17


def test_weights_bytes_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        weights_bytes(checkpoint(tmp_path, {}))
    assert caught.value.reason == "WeightsMissing"


def test_read_config_refuses_a_folder_without_one(tmp_path: Path) -> None:
    assert read_config(checkpoint(tmp_path, {"architectures": ["A"]}, 10)) == {"architectures": ["A"]}
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError) as caught:
        read_config(tmp_path)
    assert caught.value.reason == "ConfigMissing"


@pytest.mark.parametrize("config", [{"architectures": ["Gpt2LMHeadModel"]}, {"architectures": []}, {}])
def test_refuse_architecture_names_those_that_the_backend_can_handle(config: dict[str, object]) -> None:
    known = ["LlamaForCausalLM", "Gemma3ForCausalLM"]
    refuse_architecture({"architectures": ["LlamaForCausalLM"]}, "autoawq", known)
    with pytest.raises(
        ModelError, match=r"backend: autoawq .* one of Gemma3ForCausalLM, LlamaForCausalLM, or"
    ) as caught:
        refuse_architecture(config, "autoawq", known)
    assert caught.value.reason == "ArchitectureUnknown"


def test_every_backend_of_the_spec_is_there() -> None:
    assert set(BACKENDS) == set(get_args(QuantizationSpec.model_fields["backend"].annotation))


def test_refuse_rows_names_the_layer_and_the_other_backend() -> None:
    refuse_rows(SHAPES)
    with pytest.raises(
        ModelError, match=r"32 output features at a time, k_proj has 16 .* llm-compressor, or"
    ) as caught:
        refuse_rows([*SHAPES, ("k_proj", 16, 640)])
    assert caught.value.reason == "RowsDoNotFit"


SHAPES = [("layers.0.q_proj", 1024, 640), ("layers.0.o_proj", 640, 1024), ("layers.0.down_proj", 640, 2048)]


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_refuse_group_size_passes_what_divides_every_width(group_size: int) -> None:
    refuse_group_size(SHAPES, group_size)


def test_refuse_group_size_names_the_field_and_the_layer() -> None:
    with pytest.raises(ModelError) as caught:
        refuse_group_size([*SHAPES, ("layers.0.odd", 640, 96)], 64)
    assert caught.value.reason == "GroupSizeDoesNotFit"
    assert "quantization.groupSize: 64 does not divide the input width 96 of layers.0.odd" in str(caught.value)
