"""Checks before quantization that both backends share; each error names the field and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from toxicity_stage.errors import ModelError

INSTEAD = "or serve the merged weights with quantization.method: none"
"""The last remedy in every message: it works with any model."""
KEPT = "lm_head"
"""The output layer is not quantized: in models with tied weights it is the embedding."""


def refuse_architecture(config: Mapping[str, Any], backend: str, known: Collection[str]) -> None:
    """Raises ModelError unless `backend` can quantize the architecture in config.json, one of `known`."""
    architectures = config.get("architectures") or []
    if not set(architectures) & set(known):
        raise ModelError(
            "ArchitectureUnknown",
            f"quantization.backend: {backend} cannot quantize {' or '.join(architectures) or 'this model'};"
            f" choose a baseModel that is one of {', '.join(sorted(known))}, {INSTEAD}",
        )


def refuse_group_size(shapes: Iterable[tuple[str, int, int]], group_size: int) -> None:
    """Raises ModelError unless quantization.groupSize divides the input width of every layer.

    `shapes` are (layer name, output features, input features).
    """
    bad = sorted({(width, name) for name, _, width in shapes if width % group_size})
    if bad:
        width, name = bad[0]
        raise ModelError(
            "GroupSizeDoesNotFit",
            f"quantization.groupSize: {group_size} does not divide the input width {width} of {name}"
            f" ({len(bad)} layers like it); choose one of 32, 64 and 128 that divides the width of every layer",
        )


def linear_shapes(model: Any) -> list[tuple[str, int, int]]:
    """(name, output features, input features) of each layer that is quantized."""
    import torch

    return [
        (name, int(module.out_features), int(module.in_features))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith(KEPT)
    ]
