"""Test the choice of the weights' form by CPU flags, and that a usable checkpoint is not copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toxicity_serving.engine.vllm import set_vllm_environment
from toxicity_serving.engine.weights import Machine, WeightsError, plan_weights, prepare_weights, read_machine

AVX2 = frozenset({"avx", "avx2", "fma"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
AVX512_BF16 = AVX512 | {"avx512_bf16"}


def machine(flags: frozenset[str], architecture: str = "x86_64", gpus: int = 0) -> Machine:
    return Machine(architecture, flags, gpus)


@pytest.mark.parametrize(
    ("quantization", "on", "form", "dtype"),
    [
        ("compressed-tensors", machine(AVX2), "decompressed", "float32"),
        ("compressed-tensors", machine(AVX512 - {"avx512bw"}), "decompressed", "float32"),
        ("compressed-tensors", machine(AVX512), "native-4bit", "bfloat16"),
        ("compressed-tensors", machine(AVX512_BF16), "decompressed", "bfloat16"),
        ("compressed-tensors", machine(AVX512 | {"amx_bf16"}), "decompressed", "bfloat16"),
        ("compressed-tensors", machine(frozenset(), "aarch64"), "native-4bit", "bfloat16"),
        ("compressed-tensors", machine(frozenset({"bf16"}), "aarch64"), "native-4bit", "bfloat16"),
        ("compressed-tensors", machine(AVX2, gpus=1), "native-4bit", "bfloat16"),
        ("awq", machine(AVX512), "native-4bit", "bfloat16"),
        ("awq", machine(AVX512_BF16), "native-4bit", "bfloat16"),
        (None, machine(AVX2), "unquantized", "float32"),
        (None, machine(AVX512), "unquantized", "float32"),
        (None, machine(AVX512_BF16), "unquantized", "bfloat16"),
        (None, machine(AVX2, gpus=1), "unquantized", "bfloat16"),
    ],
)
def test_form_and_dtype_follow_the_machine(quantization: str | None, on: Machine, form: str, dtype: str) -> None:
    plan = plan_weights(quantization, on)
    assert (plan.form, plan.dtype) == (form, dtype)


def test_format_without_kernel_or_decompression_is_refused() -> None:
    with pytest.raises(WeightsError, match="awq needs a GPU or a CPU with AVX-512"):
        plan_weights("awq", machine(AVX2))


def test_unquantized_model_is_served_in_place(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3_text"}))
    prepared = prepare_weights(tmp_path, tmp_path / "scratch", machine(AVX2))
    assert (prepared.path, prepared.plan.form) == (tmp_path, "unquantized")
    assert not (tmp_path / "scratch").exists()


def test_copy_from_an_earlier_start_is_reused(tmp_path: Path) -> None:
    model = tmp_path / "quantize-f1" / "model"
    model.mkdir(parents=True)
    config = {"quantization_config": {"quant_method": "compressed-tensors"}}
    (model / "config.json").write_text(json.dumps(config))
    copy = tmp_path / "scratch" / "quantize-f1-decompressed"
    copy.mkdir(parents=True)
    assert prepare_weights(model, tmp_path / "scratch", machine(AVX2)).path == copy


def test_flags_are_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: other\n")
    assert read_machine(0, cpuinfo).cpu_flags == {"fpu", "avx2"}


def test_existing_environment_takes_precedence_over_the_defaults() -> None:
    environment = {"OMP_NUM_THREADS": "3"}
    set_vllm_environment(environment, gpus=0)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_gpu_sets_no_cpu_variables() -> None:
    environment: dict[str, str] = {}
    set_vllm_environment(environment, gpus=1)
    assert environment.keys().isdisjoint({"OMP_NUM_THREADS", "LD_PRELOAD", "KMP_BLOCKTIME"})
    assert environment["HF_HUB_OFFLINE"] == "1"
