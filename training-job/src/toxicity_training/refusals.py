"""Checks of a base model before training: an incomplete folder, and LoRA targets that cannot be merged."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from toxicity_stage.artifacts import is_out_of_memory
from toxicity_stage.errors import ModelError, listed

WHOLE = (
    "provide a complete Hugging Face folder of a causal language model: config.json, all its safetensors and tokenizer"
    " files, not Git LFS pointers"
)


def unreadable(folder: Path, wrong: str) -> ModelError:
    """The error for an unusable base model folder; `wrong` continues the sentence `baseModel: FOLDER`."""
    return ModelError("BaseModelUnreadable", f"baseModel: {folder} {wrong}; {WHOLE}")


def may_be_the_machine(error: Exception) -> bool:
    """Whether the machine rather than the folder may be at fault: out of memory, or a failed accelerator."""
    import torch

    if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):
        return True
    # Transformers hides the cause of a failed weight conversion; with 4 bit it is mostly the GPU's memory
    if "automatic conversion of the weights" in str(error):
        return True
    # mmap failed: torch raises the C library's message without an errno
    return getattr(error, "errno", None) == errno.ENOMEM or "Cannot allocate memory" in str(error)


def refuse_parts(folder: Path, model: Any, loading: Mapping[str, Any]) -> None:
    """Raises ModelError unless every weight of `model` was loaded from the folder in the right shape.

    Transformers initialises missing weights randomly. `loading` is its loading info.
    """
    missing = sorted(loading["missing_keys"])
    if missing:
        raise unreadable(folder, f"lacks the weights {listed(missing, 3)}")
    misshapen = sorted(name for name, *_ in loading["mismatched_keys"]) or sorted(_misshapen(model))
    if misshapen:
        raise unreadable(folder, f"has weights whose shape differs from config.json: {listed(misshapen, 3)}")


def _misshapen(model: Any) -> Iterable[str]:
    """The parameters whose shape differs from the model's configuration.

    Transformers 5.19 does not compare shapes while it quantizes (`hf_quantizer is None` in core_model_loading.py).
    """
    import torch

    with torch.device("meta"):
        described = type(model)(model.config)
    shapes = {name: parameter.shape for name, parameter in described.named_parameters(remove_duplicate=False)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        quantized = getattr(
            parameter, "quant_state", None
        )  # 4-bit weights are packed; quant_state has their shape
        # sorted, since quantized GPT-2 layers are transposed
        shape = sorted(parameter.shape if quantized is None else quantized.shape)
        if name in shapes and shape != sorted(shapes[name]):
            yield name


def refuse_empty(folder: Path, tokenizer: Any) -> None:
    """Raises ModelError for an empty vocabulary: without tokenizer files, Transformers creates an empty tokenizer."""
    words = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys() - set(tokenizer.all_special_tokens)
    if not words:
        raise unreadable(folder, "has no tokenizer vocabulary (tokenizer.json or tokenizer.model)")


def tied_modules(model: Any) -> set[str]:
    """The names of modules that share a weight with another module, such as tied embeddings."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}


def refuse_tied_targets(targets: Iterable[str], tied: set[str]) -> None:
    """Raises ModelError if one of the LoRA targets is a tied module.

    The adapter changes one of the tied modules, but its merged weight changes both, so the served model would differ
    from the trained one.
    """
    both = sorted(tied.intersection(targets))
    if both:
        raise ModelError(
            "UnknownTargetModules",
            f"training.lora.targetModules: {both[0]} shares its weight with {', '.join(sorted(tied - {both[0]}))} in"
            " this baseModel (tie_word_embeddings), so its adapter cannot be merged; remove it, or use"
            " all-linear",
        )
