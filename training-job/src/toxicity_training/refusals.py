"""What a base model is refused for before it is trained: a folder that is not whole, a target that cannot be merged."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from toxicity_stage.artifacts import is_out_of_memory
from toxicity_stage.errors import ModelError, listed

WHOLE = (
    "provide a whole Hugging Face folder of a causal language model: config.json, all its safetensors and tokenizer"
    " files, no Git LFS pointers in their place"
)


def unreadable(folder: Path, wrong: str) -> ModelError:
    """The refusal of a base model's folder; `wrong` says what is wrong with it."""
    return ModelError("BaseModelUnreadable", f"baseModel: {folder} {wrong}; {WHOLE}")


def may_be_the_machine(error: Exception) -> bool:
    """Whether not the folder but this machine may be at fault: memory that ran out, an accelerator that failed."""
    import torch

    if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):
        return True
    # Transformers keeps to itself what failed while it quantized or joined weights; with 4 bit it is a GPU's memory
    if "automatic conversion of the weights" in str(error):
        return True
    # mapping a file: in C's words, which torch hands on in an error without a number
    return getattr(error, "errno", None) == errno.ENOMEM or "Cannot allocate memory" in str(error)


def refuse_parts(folder: Path, model: Any, loading: Mapping[str, Any]) -> None:
    """Raises ModelError unless every weight of `model` came from the folder, in its shape.

    Transformers puts random numbers where a weight is missing. `loading` is its loading info.
    """
    missing = sorted(loading["missing_keys"])
    if missing:
        raise unreadable(folder, f"lacks the weights {listed(missing, 3)}")
    misshapen = sorted(name for name, *_ in loading["mismatched_keys"]) or sorted(_misshapen(model))
    if misshapen:
        raise unreadable(folder, f"has weights of another shape than config.json says: {listed(misshapen, 3)}")


def _misshapen(model: Any) -> Iterable[str]:
    """The parameters that have another shape than the model's configuration gives them.

    Transformers 5.19 compares no shapes while it quantizes (`hf_quantizer is None` in core_model_loading.py).
    """
    import torch

    with torch.device("meta"):
        described = type(model)(model.config)
    shapes = {name: parameter.shape for name, parameter in described.named_parameters(remove_duplicate=False)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        quantized = getattr(parameter, "quant_state", None)  # four-bit numbers lie packed in a shape of their own
        # in any order, since those of GPT-2's layers lie transposed then
        shape = sorted(parameter.shape if quantized is None else quantized.shape)
        if name in shapes and shape != sorted(shapes[name]):
            yield name


def refuse_empty(folder: Path, tokenizer: Any) -> None:
    """Raises ModelError for a tokenizer that knows no word: without its files, Transformers makes up an empty one."""
    words = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys() - set(tokenizer.all_special_tokens)
    if not words:
        raise unreadable(folder, "has no vocabulary of a tokenizer (tokenizer.json or tokenizer.model)")


def tied_modules(model: Any) -> set[str]:
    """The names of the modules that share a weight with another one, as the embeddings of many models do."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}


def refuse_tied_targets(targets: Iterable[str], tied: set[str]) -> None:
    """Raises ModelError when one of the modules that LoRA changes is one of the `tied`.

    Their adapter works in one place, its merged weight in both: what is served would not be what was trained.
    """
    both = sorted(tied.intersection(targets))
    if both:
        raise ModelError(
            "UnknownTargetModules",
            f"training.lora.targetModules: {both[0]} shares its weight with {', '.join(sorted(tied - {both[0]}))} in"
            " this baseModel (tie_word_embeddings), so that its adapter cannot be merged; leave it out, or use"
            " all-linear",
        )
