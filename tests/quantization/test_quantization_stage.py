"""The whole quantization stage on a tiny model: its folder, its result, and the equivalence of the model."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.training.gpu_device import on_cpu_and_gpu
from support.training.tiny import ALIKE, SPELLED
from toxicity_api.checksums import CHECKSUMS_FILE, verify_checksums
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.folder import read_normal_form
from toxicity_api.prompting import build_prompt
from toxicity_api.results import TERMINATION_MESSAGE_LIMIT, QuantizationResult, StageResult
from toxicity_api.spec import TrainingSpec
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, QuantizationConfig
from toxicity_quantization import stage
from toxicity_quantization.__main__ import main
from toxicity_quantization.backends import BACKENDS
from toxicity_quantization.packing import Packing, restore, stated_sizes
from toxicity_quantization.stage import resolved, run, training_result
from toxicity_quantization.tensors import Array, read_tensors, read_values
from toxicity_stage.artifacts import read_result
from toxicity_training.evaluation.scoring import score_texts
from toxicity_training.splits import read_split

pytestmark = pytest.mark.engine

MakeConfig = Callable[..., QuantizationConfig]
LAYERS = 2 * 7


def quantized(config: QuantizationConfig) -> QuantizationResult:
    result = run(config)
    assert len(result.to_termination_message().encode()) <= TERMINATION_MESSAGE_LIMIT
    assert result.quantization is not None
    return result.quantization


def scores(backend: str, folder: Path, texts: list[str], spec: TrainingSpec, gpus: int) -> list[float]:
    model, tokenizer = BACKENDS[backend].load(folder, gpus=gpus)
    return score_texts(
        model,
        tokenizer,
        texts,
        template=spec.prompt_format,
        labels=spec.labels,
        max_tokens=spec.max_input_tokens,
        batch_size=8,
    )


def test_names_of_control_tokens_in_a_comment_are_characters(
    make_config: MakeConfig, merged_model: Path, backend: str
) -> None:
    _, tokenizer = BACKENDS[backend].load(merged_model, gpus=0)
    form = make_config().training.prompt_format
    assert build_prompt(tokenizer, form, SPELLED, 99) == build_prompt(tokenizer, form, ALIKE, 99)


@on_cpu_and_gpu
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


@on_cpu_and_gpu
def test_the_checkpoint_is_described_as_the_merged_model_is(make_config: MakeConfig, packing: Packing) -> None:
    config = make_config()
    run(config)
    source, folder = config.input_dir / "model", config.output_dir / "model"
    before, after = (json.loads((path / "config.json").read_text()) for path in (source, folder))
    assert stated_sizes(after) == {(4, 32)}
    assert after.pop("quantization_config")["quant_method"] == packing.method
    assert after == before
    assert read_normal_form(folder) == NORMAL_FORM_VERSION
    assert {path.name for path in folder.iterdir()} >= {path.name for path in source.iterdir()}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    dtypes = {tensor.dtype for tensor in read_tensors(folder).values()}
    assert dtypes <= {"BF16", "I32", "I64"}


def test_all_that_the_merged_model_has_beside_its_weights_is_in_the_checkpoint(make_config: MakeConfig) -> None:
    config = make_config()
    source = config.input_dir / "model"
    # as a tokenizer with several named chat templates is saved; and what no Transformers knows, a folder down
    added = ["chat_template.jinja", "additional_chat_templates/tool_use.jinja", "assets/more/notes.txt"]
    for name in added:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"{{{{ messages }}}} {name}", encoding="utf-8")
    run(config)
    target = config.output_dir / "model"
    assert verify_checksums(target)
    covered = json.loads((target / CHECKSUMS_FILE).read_text(encoding="utf-8"))["files"]
    assert covered.keys() >= {*added}
    beside = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for name in beside - {Path(name) for name in ("config.json", "model.safetensors", CHECKSUMS_FILE)}:
        assert (target / name).read_bytes() == (source / name).read_bytes(), name


@on_cpu_and_gpu
def test_the_quantized_model_answers_as_the_merged_one(make_config: MakeConfig) -> None:
    config = make_config()
    run(config)
    spec = resolved(config.training, training_result(config.input_dir))
    texts = [example.text for example in read_split(config.input_dir / "splits", "test")]
    before, after = (
        scores(config.quantization.backend, folder / "model", texts, spec, config.quantization.gpus)
        for folder in (config.input_dir, config.output_dir)
    )
    assert max(before) - min(before) > 0.05  # of texts that an untrained model tells apart at all
    assert np.corrcoef(before, after)[0, 1] > 0.9


def theirs(backend: str, folder: Path, name: str) -> Array:
    """The weights of the layer `name`, restored by the backend's library."""
    import torch
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    parts = {key.removeprefix(f"{name}."): value for key, value in stored.items() if key.startswith(f"{name}.")}
    if backend == "autoawq":
        from awq.utils.packing_utils import dequantize_gemm

        scales = parts["scales"].to(torch.float32)
        return np.asarray(dequantize_gemm(parts["qweight"], parts["qzeros"], scales, 4, 32).T)
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationScheme

    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]
    scheme = QuantizationScheme.model_validate(groups["group_0"])
    parts["weight_scale"] = parts["weight_scale"].to(torch.float32)
    return np.asarray(PackedQuantizationCompressor.decompress(parts, scheme)["weight"])


@on_cpu_and_gpu
def test_numbers_are_read_as_the_library_reads_them(make_config: MakeConfig, packing: Packing) -> None:
    config = make_config()
    run(config)
    folder = config.output_dir / "model"
    name = "model.layers.1.mlp.down_proj"
    expected = theirs(config.quantization.backend, folder, name)
    np.testing.assert_allclose(restore(packing, name, read_tensors(folder)), expected, rtol=1e-6)


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


def test_a_stage_without_gpus_shows_its_library_none(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str | None] = []
    real = stage.run

    def run_and_note(config: QuantizationConfig) -> StageResult:
        shown.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        return real(config)

    monkeypatch.setattr(stage, "run", run_and_note)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, make_config().model_dump_json(by_alias=True))
    assert main(["--termination-log", str(tmp_path / "log")]) == 0
    assert shown == [""]


def test_a_channel_that_a_norm_switches_off_leaves_the_scales_of_the_others_small(
    make_config: MakeConfig,
) -> None:
    """Gemma multiplies by 1 + weight. In bf16, a sum that AWQ made a hundredfold smaller has few digits left."""
    from safetensors.torch import load_file, save_file

    name = "model.layers.0.pre_feedforward_layernorm.weight"
    config = make_config()
    file = config.input_dir / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors[name][:2] = -1.0
    save_file(tensors, file, metadata={"format": "pt"})
    quantized(config)
    before, after = (
        1 + read_values(read_tensors(folder / "model")[name]) for folder in (config.input_dir, config.output_dir)
    )
    factors = after[2:] / before[2:]
    assert factors.min() > 0.1 and factors.max() < 10
