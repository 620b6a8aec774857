"""AutoAWQ's architectures and the corrections to it; needs the environment with AutoAWQ."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from support.training.gpu_device import on_cpu_and_gpu
from support.training.tiny import write_base_model
from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.checkpoint import complete, read_config
from toxicity_quantization.proof import prove
from toxicity_quantization.tensors import Array, read_tensors
from toxicity_quantization.with_autoawq import AUTOAWQ_TYPES, load, quantize, save, settings, wrap
from toxicity_stage.errors import ModelError

pytestmark = [pytest.mark.engine, pytest.mark.autoawq]

SPEC = QuantizationSpec(backend="autoawq", gpus=0, group_size=32)
THETA = 500.0
SIZES = {
    "vocab_size": 80,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
READ_IN_BF16 = 0.03
"""Relative tolerance of logits in bf16 (on a GPU) to those in fp32."""
PROMPTS = [[1, *(Random(seed).randrange(3, 80) for _ in range(5 + seed))] for seed in range(12)]


def write_model(folder: Path, architecture: str) -> Any:
    """A random model of the architecture, with the config.json of a newer Transformers; the model itself."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_base_model(folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    config = AutoConfig.for_model(AUTOAWQ_TYPES[architecture], **SIZES, rope_theta=THETA)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(weight, 0.5, 0.2)
    model.to(torch.bfloat16).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    written = read_config(folder)
    rope = {"rope_type": "default", "rope_theta": written.pop("rope_theta")}
    if architecture == "Gemma3ForCausalLM":
        sliding = {"rope_type": "default", "rope_theta": written.pop("rope_local_base_freq")}
        rope = {"full_attention": rope, "sliding_attention": sliding}
    (folder / "config.json").write_text(json.dumps(written | {"rope_parameters": rope}), encoding="utf-8")
    return model


def logits(model: Any) -> Array:
    """The logits of all tokens of all prompts, tokens x vocabulary."""
    import torch

    with torch.inference_mode():
        prompts = [torch.tensor([prompt], device=model.device) for prompt in PROMPTS]
        rows = [model(prompt, use_cache=False).logits[0] for prompt in prompts]
    return torch.cat(rows).float().cpu().numpy()


@on_cpu_and_gpu
@pytest.mark.parametrize("architecture", sorted(AUTOAWQ_TYPES))
def test_a_model_is_read_and_quantized_whatever_its_architecture(
    tmp_path: Path, architecture: str, gpus: int
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    before = logits(write_model(source, architecture))
    model, _ = load(source, gpus=gpus)
    if gpus:
        assert relative(logits(model), before) < READ_IN_BF16
    else:
        np.testing.assert_allclose(logits(model), before, atol=1e-4)

    quantize(model, PROMPTS, SPEC)
    save(model, target)
    complete(target, source)
    proof = prove(read_tensors(source), read_tensors(target), read_config(target), SPEC)
    assert read_config(target)["architectures"] == [architecture]
    assert proof.mean_error < 0.15
    quantized, _ = load(target, gpus=gpus)
    assert relative(logits(quantized), before) < 0.6


def test_weights_that_config_json_does_not_describe_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    config = read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.layers\.2\..* run the training again") as caught:
        load(tmp_path, gpus=0)
    assert caught.value.reason == "WeightsUnknown"


def relative(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("architecture", sorted(AUTOAWQ_TYPES))
def test_scaling_alone_leaves_the_model_as_it_was(tmp_path: Path, architecture: str) -> None:
    from toxicity_quantization.autoawq_corrections import quantizer_class

    before = logits(write_model(tmp_path, architecture))
    model, _ = load(tmp_path, gpus=0)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    wrap(model).quantize(
        quant_config=settings(SPEC),
        calib_data=PROMPTS,
        apply_clip=False,
        export_compatible=True,
        quantizer_cls=quantizer_class(),
    )
    changed = [name for name, weight in model.state_dict().items() if not weight.equal(weights[name])]
    assert "model.layers.0.mlp.down_proj.weight" in changed
    np.testing.assert_allclose(logits(model), before, atol=1e-3)


def test_a_channel_that_a_norm_shuts_off_does_not_set_the_scales_of_the_others(tmp_path: Path) -> None:
    import torch

    write_model(tmp_path, "Gemma3ForCausalLM")
    model, _ = load(tmp_path, gpus=0)
    norm = model.model.layers[0].pre_feedforward_layernorm.weight
    with torch.no_grad():
        norm[3] = -1.0
    before = 1 + norm.detach().clone().numpy()
    quantize(model, PROMPTS, SPEC)
    after = 1 + model.model.layers[0].pre_feedforward_layernorm.weight.detach().numpy()
    assert before[3] == after[3] == 0
    scales = np.delete(before, 3) / np.delete(after, 3)
    # 1 + weight is stored as a weight in bf16, which knows no steps below 1/256 next to -1
    assert 0.2 < scales.min() < scales.max() < 5


def test_a_prompt_is_seen_alone_and_from_its_beginning(tmp_path: Path) -> None:
    import torch
    from awq.utils.module import get_named_linears

    from toxicity_quantization.autoawq_corrections import quantizer_class

    write_model(tmp_path, "Gemma3ForCausalLM")
    model, _ = load(tmp_path, gpus=0)
    output = model.model.layers[1].self_attn.o_proj
    alone: list[Any] = []
    handle = output.register_forward_pre_hook(lambda _, positional: alone.append(positional[0]))
    logits(model)
    handle.remove()
    quantizer = quantizer_class()(wrap(model), model, None, 4, 32, True, "gemm", PROMPTS, "", "", True)
    with torch.no_grad():
        for layer in quantizer.modules:
            inputs = quantizer._get_input_feat(layer, get_named_linears(layer))
    torch.testing.assert_close(inputs["self_attn.o_proj"], torch.cat(alone, dim=1))
