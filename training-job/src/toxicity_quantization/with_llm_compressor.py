"""Backend `llm-compressor`: AWQ by llm-compressor, saved as a compressed-tensors checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization.calibrate import FLOOR, calibration_loader
from toxicity_quantization.refusals import KEPT, linear_shapes, refuse_group_size

SCHEME = "W4A16_ASYM"


def known_architectures() -> list[str]:
    """The architectures for which llm-compressor's AWQ has mappings."""
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

    return sorted(AWQ_MAPPING_REGISTRY)


def load(folder: Path, *, gpus: int) -> tuple[Any, Any]:
    """(model, tokenizer) loaded by Transformers, quantized or not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if gpus else torch.float32, use_safetensors=True, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model.to("cuda" if gpus else "cpu"), tokenizer


def quantize(model: Any, prompts: Sequence[Sequence[int]], spec: QuantizationSpec) -> None:
    """Quantizes the linear layers of `model` in place; `prompts` are token ids of calibration texts."""
    from llmcompressor import oneshot

    refuse_group_size(linear_shapes(model), spec.group_size)
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
    return [_floored(AWQModifier)(), QuantizationModifier(config_groups={"group_0": scheme}, ignore=[KEPT])]


def _floored(modifier: Any) -> Any:
    """`modifier` with a lower bound of the activations, FLOOR; llm-compressor 0.14 has no setting for one."""

    class FlooredModifier(modifier):  # type: ignore[misc]
        def _compute_best_scale(self, mapping: Any, *rest: Any) -> Any:
            total, _ = found = self._smooth_activation_stats[mapping.smooth_name]
            found[0] = total.clamp(min=FLOOR * float(total.mean()))
            return super()._compute_best_scale(mapping, *rest)

    return FlooredModifier


def _disable_pinning_without_accelerator() -> None:
    """Stops llm-compressor 0.14 from pinning its cache without an accelerator; remove this once it checks itself."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache._pin_intermediate = classmethod(lambda cls, intermediate: None)


def save(model: Any, folder: Path) -> None:
    """Saves the quantized weights and config.json."""
    model.save_pretrained(folder, save_compressed=True)
