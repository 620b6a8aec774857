"""A config.json of Transformers 5 is translated for 4.51 or refused; no field falls back to a default."""

from __future__ import annotations

import pytest

from toxicity_quantization.older_config import older_config, sliding_pattern
from toxicity_stage.errors import ModelError

FULL, SLIDING = "full_attention", "sliding_attention"


def test_each_kind_of_layer_keeps_its_frequencies() -> None:
    config = {
        "model_type": "gemma3_text",
        "dtype": "bfloat16",
        "hidden_size": 640,
        "layer_types": [SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL, SLIDING],
        "rope_parameters": {
            FULL: {"rope_type": "linear", "rope_theta": 2e6, "factor": 8.0},
            SLIDING: {"rope_type": "default", "rope_theta": 5e4},
        },
        "quantization_config": {"quant_method": "awq"},
    }
    assert older_config(config) == {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "sliding_window_pattern": 3,
        "rope_theta": 2e6,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_local_base_freq": 5e4,
    }


def test_frequencies_of_all_layers_are_moved_up() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "original_max_position_embeddings": 8192}
    assert older_config({"model_type": "llama", "rope_parameters": rope}) == {
        "model_type": "llama",
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192},
    }
    plain = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    assert older_config({"model_type": "phi3", "rope_parameters": plain}) == {
        "model_type": "phi3",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.5,
    }


def test_what_is_in_the_old_words_already_stays() -> None:
    config = {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert older_config(config) == config


@pytest.mark.parametrize(
    ("layers", "pattern"),
    [([SLIDING, FULL] * 2, 2), ([SLIDING] * 3, 4), ([FULL] * 3, 1), ([*[SLIDING] * 5, FULL, SLIDING], 6)],
)
def test_full_attention_comes_at_even_intervals(layers: list[str], pattern: int) -> None:
    assert sliding_pattern(layers) == pattern


def test_an_uneven_order_is_refused() -> None:
    with pytest.raises(ModelError, match=r"use quantization\.backend: llm-compressor") as caught:
        sliding_pattern([SLIDING, FULL, SLIDING, SLIDING, FULL])
    assert caught.value.reason == "ArchitectureUnknown"
