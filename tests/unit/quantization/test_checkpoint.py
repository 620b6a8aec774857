"""A checkpoint that was not quantized, or did not shrink, is refused; so is a group size that does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toxicity_quantization.checkpoint import NotQuantizedError, require_quantized, weights_bytes
from toxicity_quantization.compress import refuse_group_size
from toxicity_training.errors import ModelError


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


def test_require_quantized_gives_the_size_when_all_is_well(tmp_path: Path) -> None:
    assert require_quantized(checkpoint(tmp_path, {"quantization_config": {"bits": 4}}, 60), 100) == 60


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": {}}])
def test_require_quantized_refuses_a_config_that_does_not_say_so(
    tmp_path: Path, config: dict[str, object]
) -> None:
    with pytest.raises(NotQuantizedError, match="quantization_config"):
        require_quantized(checkpoint(tmp_path, config, 60), 100)


@pytest.mark.parametrize("size", [100, 101])
def test_require_quantized_refuses_weights_that_did_not_shrink(tmp_path: Path, size: int) -> None:
    with pytest.raises(NotQuantizedError, match=f"100 bytes before, {size} after"):
        require_quantized(checkpoint(tmp_path, {"quantization_config": {"bits": 4}}, size), 100)


WIDTHS = [("layers.0.q_proj", 640), ("layers.0.o_proj", 1024), ("layers.0.down_proj", 2048)]


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_refuse_group_size_passes_what_divides_every_width(group_size: int) -> None:
    refuse_group_size(WIDTHS, group_size)


def test_refuse_group_size_names_the_field_and_the_layer() -> None:
    with pytest.raises(ModelError) as caught:
        refuse_group_size([*WIDTHS, ("layers.0.odd", 96)], 64)
    assert caught.value.reason == "GroupSizeDoesNotFit"
    assert "quantization.groupSize: 64 does not divide the input width 96 of layers.0.odd" in str(caught.value)
