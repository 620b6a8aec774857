"""The whole stage on a tiny model: what is in its folder and its result, and that it is still the same model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toxicity_api.results import TERMINATION_MESSAGE_LIMIT, QuantizationResult
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import QuantizationConfig
from toxicity_quantization.proof import dequantize
from toxicity_quantization.stage import load, resolved, run, training_result
from toxicity_quantization.tensors import read_tensors, read_values
from toxicity_training.artifacts import read_result
from toxicity_training.data import read_split
from toxicity_training.scoring import score_texts

pytestmark = pytest.mark.engine

MakeConfig = Callable[..., QuantizationConfig]
LAYERS = 2 * 7


def quantized(config: QuantizationConfig) -> QuantizationResult:
    result = run(config)
    assert len(result.to_termination_message().encode()) <= TERMINATION_MESSAGE_LIMIT
    assert result.quantization is not None
    return result.quantization


def scores(folder: Path, texts: list[str], spec: TrainingSpec) -> list[float]:
    model, tokenizer = load(folder, gpus=0)
    return score_texts(
        model,
        tokenizer,
        texts,
        template=spec.prompt_template,
        labels=spec.labels,
        max_tokens=spec.max_input_tokens,
        batch_size=8,
    )


def test_the_published_folder_is_whole(make_config: MakeConfig) -> None:
    config = make_config()
    figures = quantized(config)
    folder = config.output_dir
    published = read_result(folder)
    assert published is not None
    assert published.quantization == figures
    assert {path.name for path in folder.iterdir()} == {"evaluation", "layers.csv", "model", "result.json"}
    assert (figures.quantized_layers, figures.kept_layers, figures.calibration_samples) == (LAYERS, 1, 12)
    assert figures.size_bytes < figures.original_size_bytes
    assert 0.03 < (figures.mean_error or 0) <= (figures.max_error or 0) < 0.2
    with (folder / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == LAYERS
    assert max(float(row["error"]) for row in rows) == pytest.approx(figures.max_error, abs=1e-5)
    assert all(float(row["bytes"]) < 0.4 * float(row["original_bytes"]) for row in rows)
    saved = json.loads((folder / "model" / "config.json").read_text())
    assert saved["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] == 32


def test_the_quantized_model_answers_as_the_merged_one(make_config: MakeConfig) -> None:
    config = make_config()
    run(config)
    spec = resolved(config.training, training_result(config.input_dir))
    texts = [example.text for example in read_split(config.input_dir / "splits", "test")]
    before, after = (scores(folder / "model", texts, spec) for folder in (config.input_dir, config.output_dir))
    assert max(before) - min(before) > 0.05  # of texts that an untrained model tells apart at all
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_numbers_are_read_as_compressed_tensors_reads_them(make_config: MakeConfig) -> None:
    import torch
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from safetensors.torch import load_file

    config = make_config()
    run(config)
    folder = config.output_dir / "model"
    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]
    scheme = QuantizationScheme.model_validate(groups["group_0"])
    stored, tensors = load_file(folder / "model.safetensors"), read_tensors(folder)
    name = "model.layers.1.mlp.down_proj."
    parts = {key.removeprefix(name): value.clone() for key, value in stored.items() if key.startswith(name)}
    parts["weight_scale"] = parts["weight_scale"].to(torch.float32)
    theirs = PackedQuantizationCompressor.decompress(parts, scheme)["weight"].numpy()
    ours = dequantize(
        *(read_values(tensors[f"{name}weight_{part}"]) for part in ("packed", "scale", "zero_point"))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_calibration_is_seeded_and_its_hash_tells_it_apart(make_config: MakeConfig) -> None:
    one, same = quantized(make_config("one")), quantized(make_config("same"))
    other = quantized(make_config("other", seed=7))
    assert one.calibration_hash == same.calibration_hash != other.calibration_hash
    assert one.mean_error == same.mean_error
    assert len(one.calibration_hash or "") == 64


def test_calibration_says_how_many_texts_there_were(make_config: MakeConfig) -> None:
    config = make_config(calibration_samples=1024)
    different = len(read_split(config.input_dir / "splits", "train"))
    assert quantized(config).calibration_samples == different < 1024
