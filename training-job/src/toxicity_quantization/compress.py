"""AWQ through llm-compressor: 4-bit weights of the linear layers, written as a compressed-tensors checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.calibrate import calibration_loader
from toxicity_training.errors import ModelError

SCHEME = "W4A16_ASYM"
KEPT = "lm_head"
"""The output layer stays as it is: it is the embedding itself in models that tie the two."""
INSTEAD = "or serve the merged weights with quantization.method: none"
"""The last remedy in every message: what works with any model."""


def known_architectures() -> list[str]:
    """The architectures whose layers llm-compressor's AWQ knows how to balance."""
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

    return sorted(AWQ_MAPPING_REGISTRY)


def refuse_architecture(config: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ModelError naming the `known` architectures unless the model of this config.json is one of them."""
    architectures = config.get("architectures") or []
    if not set(architectures) & set(known):
        raise ModelError(
            "ArchitectureUnknown",
            f"quantization.backend: llm-compressor cannot quantize {' or '.join(architectures) or 'this model'};"
            f" choose a baseModel that is one of {', '.join(sorted(known))}, {INSTEAD}",
        )


def refuse_group_size(widths: Iterable[tuple[str, int]], group_size: int) -> None:
    """Raises ModelError naming quantization.groupSize when it divides not every layer's input width.

    `widths` are (layer name, input features).
    """
    bad = sorted({(width, name) for name, width in widths if width % group_size})
    if bad:
        width, name = bad[0]
        raise ModelError(
            "GroupSizeDoesNotFit",
            f"quantization.groupSize: {group_size} does not divide the input width {width} of {name}"
            f" ({len(bad)} layers like it); choose 32, 64 or 128 so that it divides every layer's",
        )


def linear_widths(model: Any) -> list[tuple[str, int]]:
    """(name, input features) of each layer that is quantized."""
    import torch

    return [
        (name, int(module.in_features))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith(KEPT)
    ]


def quantize(model: Any, prompts: Sequence[Sequence[int]], spec: QuantizationSpec) -> None:
    """Quantizes the linear layers of `model` in place; `prompts` are token ids of calibration texts."""
    from llmcompressor import oneshot

    refuse_group_size(linear_widths(model), spec.group_size)
    _disable_pinning_without_accelerator()
    longest = max(map(len, prompts))
    oneshot(
        model=model,
        dataset=calibration_loader(prompts),
        recipe=_recipe(spec),
        num_calibration_samples=len(prompts),
        max_seq_length=longest,
        shuffle_calibration_samples=False,
    )


def _recipe(spec: QuantizationSpec) -> list[Any]:
    from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    scheme: QuantizationScheme = preset_name_to_scheme(SCHEME, ["Linear"])
    weights = scheme.weights.model_copy(update={"group_size": spec.group_size})
    scheme = scheme.model_copy(update={"weights": weights})
    return [AWQModifier(), QuantizationModifier(config_groups={"group_0": scheme}, ignore=[KEPT])]


def _disable_pinning_without_accelerator() -> None:
    """llm-compressor 0.14 pins its cache also on machines where torch cannot; drop this once it asks first."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache._pin_intermediate = classmethod(lambda cls, intermediate: None)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """The quantized checkpoint with its tokenizer."""
    model.save_pretrained(folder, save_compressed=True)
    tokenizer.save_pretrained(folder)
