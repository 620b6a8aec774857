"""Translates a config.json of Transformers 5 for Transformers 4.51; pure.

The older version silently uses defaults for fields that it does not find, such as the frequencies of the position
embeddings. https://github.com/huggingface/transformers/blob/main/MIGRATION_GUIDE_V5.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toxicity_quantization.refusals import INSTEAD
from toxicity_stage.errors import ModelError

FULL, SLIDING = "full_attention", "sliding_attention"


def older_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` for Transformers 4.51, without quantization.

    Raises ModelError for an order of full and sliding attention that Transformers 4.51 cannot express.
    """
    older = {key: value for key, value in config.items() if key not in ("quantization_config", "dtype")}
    layer_types, rope = older.pop("layer_types", None), older.pop("rope_parameters", None) or {}
    if config["model_type"] == "gemma3_text" and layer_types:
        older["sliding_window_pattern"] = sliding_pattern(layer_types)
    if SLIDING in rope:
        older["rope_local_base_freq"] = rope[SLIDING]["rope_theta"]
    return older | _rope(rope.get(FULL, rope))


def sliding_pattern(layer_types: Sequence[str]) -> int:
    """n, if each n-th layer has full attention and all others sliding attention. Raises ModelError otherwise."""
    pattern = layer_types.index(FULL) + 1 if FULL in layer_types else len(layer_types) + 1
    expected = [SLIDING if number % pattern else FULL for number in range(1, len(layer_types) + 1)]
    if list(layer_types) != expected:
        raise ModelError(
            "ArchitectureUnknown",
            "quantization.backend: autoawq cannot quantize a model whose layers with full attention are at irregular"
            f" intervals; use quantization.backend: llm-compressor, {INSTEAD}",
        )
    return pattern


def _rope(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """rope_theta, rope_scaling and partial_rotary_factor of one entry of rope_parameters."""
    scaling = dict(parameters)
    apart = {name: scaling.pop(name) for name in ("rope_theta", "partial_rotary_factor") if name in scaling}
    scaled = scaling.get("rope_type", "default") != "default"
    return apart | ({"rope_scaling": scaling} if scaled else {})
