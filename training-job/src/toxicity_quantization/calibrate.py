"""Calibration prompts: the texts whose activations AWQ looks at, from the training split only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_training.data import Example, sample
from toxicity_training.scoring import build_prompts


def calibration_prompts(
    tokenizer: Any, train: Sequence[Example], spec: TrainingSpec, samples: int, length: int
) -> list[list[int]]:
    """Token ids of about `samples` prompts of at most `length` tokens, stratified over the label and seeded.

    The prompts are those that training and serving use. Raises ModelError when `length` has no room for text.
    """
    chosen = sample(train, samples, spec.seed)
    texts = [example.text for example in chosen]
    return build_prompts(tokenizer, spec.prompt_template, texts, length, "quantization.calibrationLength")


def calibration_loader(prompts: Sequence[Sequence[int]]) -> Any:
    """A DataLoader with one unpadded prompt a batch, as llm-compressor takes it."""
    import torch

    rows: list[dict[str, Any]] = [
        {
            "input_ids": torch.tensor([list(prompt)], dtype=torch.long),
            "attention_mask": torch.ones((1, len(prompt)), dtype=torch.long),
        }
        for prompt in prompts
    ]
    return torch.utils.data.DataLoader(rows, batch_size=None, shuffle=False)
