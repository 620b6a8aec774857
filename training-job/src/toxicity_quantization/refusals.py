"""What no backend can quantize, refused in the same words before the work begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from toxicity_stage.errors import ModelError

INSTEAD = "or serve the merged weights with quantization.method: none"
"""The last remedy in every message: what works with any model."""
KEPT = "lm_head"
"""The output layer stays as it is: it is the embedding itself in models that tie the two."""


def refuse_architecture(config: Mapping[str, Any], backend: str, known: Collection[str]) -> None:
    """Raises ModelError naming the architectures `known` to `backend` unless the model of this config.json is one."""
    architectures = config.get("architectures") or []
    if not set(architectures) & set(known):
        raise ModelError(
            "ArchitectureUnknown",
            f"quantization.backend: {backend} cannot quantize {' or '.join(architectures) or 'this model'};"
            f" choose a baseModel that is one of {', '.join(sorted(known))}, {INSTEAD}",
        )


def refuse_group_size(shapes: Iterable[tuple[str, int, int]], group_size: int) -> None:
    """Raises ModelError naming quantization.groupSize when it divides not every layer's input width.

    `shapes` are (layer name, output features, input features).
    """
    bad = sorted({(width, name) for name, _, width in shapes if width % group_size})
    if bad:
        width, name = bad[0]
        raise ModelError(
            "GroupSizeDoesNotFit",
            f"quantization.groupSize: {group_size} does not divide the input width {width} of {name}"
            f" ({len(bad)} layers like it); choose 32, 64 or 128 so that it divides every layer's",
        )


def linear_shapes(model: Any) -> list[tuple[str, int, int]]:
    """(name, output features, input features) of each layer that is quantized."""
    import torch

    return [
        (name, int(module.out_features), int(module.in_features))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith(KEPT)
    ]
