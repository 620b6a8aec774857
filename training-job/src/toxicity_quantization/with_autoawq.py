"""Backend `autoawq`: AWQ by AutoAWQ 0.2.9, saved in AutoAWQ's format (`awq`, version `gemm`).

AutoAWQ needs an old Transformers, which misreads the config.json of newer versions and cannot run AutoAWQ's format
without a GPU. `older_config` therefore translates the configuration, and quantized weights are restored before loading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.checkpoint import read_config
from toxicity_quantization.older_config import older_config
from toxicity_quantization.packing import packing_of, restore
from toxicity_quantization.refusals import INSTEAD, KEPT, linear_shapes, refuse_group_size
from toxicity_quantization.tensors import read_tensors, read_values
from toxicity_stage.errors import ModelError

GEMMA3 = "gemma3_text"
AUTOAWQ_TYPES = {
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": GEMMA3,
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
"""The model_type of each tested architecture; AutoAWQ lists more, but not Gemma 3.

Phi 3 is left out: AutoAWQ scales the wrong rows of its joint q, k and v if heads share keys.
"""
ROWS = 32
"""The number of rows that AutoAWQ packs at a time."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


def known_architectures() -> list[str]:
    """The architectures that are tested with AutoAWQ."""
    return sorted(AUTOAWQ_TYPES)


def load(folder: Path, *, gpus: int) -> tuple[Any, Any]:
    """(model, tokenizer); quantized weights are restored, so the model has plain linear layers.

    Raises ModelError if the weights do not match config.json.
    """
    import torch
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    described = older_config(read_config(folder))
    config = AutoConfig.for_model(described.pop("model_type"), **described)
    state = {name: torch.from_numpy(values) for name, values in _read_state(folder).items()}
    model, loading = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
        None,
        config=config,
        state_dict=state,
        torch_dtype=torch.bfloat16 if gpus else torch.float32,
        output_loading_info=True,
    )
    wrong = [*loading["missing_keys"], *loading["unexpected_keys"], *loading["mismatched_keys"]]
    if wrong:
        raise ModelError(
            "WeightsUnknown",
            f"{folder}: {len(wrong)} weights do not match config.json, the first is {wrong[0]};"
            " run the training again",
        )
    return model.eval().to("cuda" if gpus else "cpu"), _load_tokenizer(folder)


def _read_state(folder: Path) -> dict[str, Any]:
    tensors = read_tensors(folder)
    packing = packing_of(read_config(folder))
    if packing is None:
        return {name: read_values(tensor) for name, tensor in tensors.items()}
    layers = packing.layers(tensors)
    parts = {name for layer in layers for name in packing.names(layer)}
    rest = {name: read_values(tensor) for name, tensor in tensors.items() if name not in parts}
    return rest | {f"{layer}.weight": restore(packing, layer, tensors) for layer in layers}


def _load_tokenizer(folder: Path) -> Any:
    """The tokenizer of tokenizer.json; the class that tokenizer_config.json names may be too new."""
    from transformers import PreTrainedTokenizerFast

    named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = {name: _token_text(named[name]) for name in SPECIAL_TOKENS if named.get(name)}
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)


def _token_text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def refuse_rows(shapes: Iterable[tuple[str, int, int]]) -> None:
    """Raises ModelError unless every layer has a multiple of ROWS output features.

    `shapes` are (layer name, output features, input features).
    """
    odd = [(name, rows) for name, rows, _ in shapes if rows % ROWS]
    if odd:
        name, rows = odd[0]
        raise ModelError(
            "RowsDoNotFit",
            f"quantization.backend: autoawq packs {ROWS} output features at a time, {name} has {rows}"
            f" ({len(odd)} layers like it); use quantization.backend: llm-compressor, {INSTEAD}",
        )


def quantize(model: Any, prompts: Sequence[Sequence[int]], spec: QuantizationSpec) -> None:
    """Quantizes the linear layers of `model` in place; `prompts` are token ids of calibration texts."""
    from toxicity_quantization.autoawq_corrections import quantizer_class

    shapes = linear_shapes(model)
    refuse_group_size(shapes, spec.group_size)
    refuse_rows(shapes)
    wrapped = wrap(model)
    wrapped.quantize(
        quant_config=settings(spec),
        calib_data=[list(prompt) for prompt in prompts],
        # clipping doubles the time per layer on a CPU and improved no metric
        apply_clip=False,
        quantizer_cls=quantizer_class(),
    )
    model.config.quantization_config = wrapped.quant_config.to_transformers_dict()


def save(model: Any, folder: Path) -> None:
    """Saves the quantized weights and config.json."""
    from huggingface_hub import save_torch_state_dict

    model.config.save_pretrained(folder)
    save_torch_state_dict(model.state_dict(), folder, shared_tensors_to_discard=model._tied_weights_keys)


def settings(spec: QuantizationSpec) -> dict[str, Any]:
    """`spec` as AutoAWQ's quant_config."""
    return {
        "zero_point": True,
        "q_group_size": spec.group_size,
        "w_bit": spec.bits,
        "version": "gemm",
        "modules_to_not_convert": [KEPT],
    }


def wrap(model: Any) -> Any:
    """Wraps a loaded model for AutoAWQ. Replaces Gemma 3's norms by ones that AutoAWQ knows."""
    from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP

    from toxicity_quantization.autoawq_corrections import gemma3_class, use_known_norms

    kind = model.config.model_type
    if kind == GEMMA3:
        use_known_norms(model)
    adapter = gemma3_class() if kind == GEMMA3 else AWQ_CAUSAL_LM_MODEL_MAP[kind]
    return adapter(model, kind, is_quantized=False, config=model.config, quant_config=None, processor=None)
