"""Calibration prompts: AWQ measures activations on them. They come from the training split only."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from random import Random
from statistics import quantiles
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_training.dataset import Example, group_equal
from toxicity_training.prompts import build_prompts, prompt_lengths

LENGTH_CLASSES = 3

FLOOR = 0.01
"""Lower bound of a channel's mean activation, as a share of the mean over all channels.

AWQ centres scales between the largest and the smallest. A channel that a norm switches off would raise all other scales
a hundredfold; Gemma's 1 + weight would then be too small for bf16.
"""


def calibration_prompts(
    tokenizer: Any, train: Sequence[Example], spec: TrainingSpec, samples: int, length: int
) -> list[list[int]]:
    """Token ids of `samples` prompts (or of all distinct texts if fewer) of at most `length` tokens, seeded.

    The sample preserves the shares of both labels and of three classes of prompt lengths. The prompts are built as in
    training and serving. Raises ModelError if `length` leaves no room for text.
    """
    different = [group[0] for group in group_equal(train)]
    lengths = prompt_lengths(tokenizer, spec.prompt_format, [example.text for example in different])
    chosen = choose([example.toxic for example in different], lengths, samples, spec.seed)
    texts = [different[index].text for index in chosen]
    return build_prompts(tokenizer, spec.prompt_format, texts, length, "quantization.calibrationLength")


def choose(labels: Sequence[bool], lengths: Sequence[int], count: int, seed: int) -> list[int]:
    """`count` indices, or all if there are fewer, stratified by label and length class; seeded."""
    random = Random(seed)
    classes = length_classes(lengths)
    chosen: list[int] = []
    both = [[index for index, label in enumerate(labels) if label is wanted] for wanted in (True, False)]
    for indices, quota in zip(both, allot([len(indices) for indices in both], count), strict=True):
        strata = [[index for index in indices if classes[index] == part] for part in range(LENGTH_CLASSES)]
        for stratum, size in zip(strata, allot([len(stratum) for stratum in strata], quota), strict=True):
            chosen += random.sample(stratum, size)
    random.shuffle(chosen)
    return chosen


def length_classes(lengths: Sequence[int]) -> list[int]:
    """The tercile of each length, 0 to 2; equal lengths are in the same tercile."""
    cuts = quantiles(lengths, n=LENGTH_CLASSES, method="inclusive") if len(lengths) > 1 else []
    return [bisect_right(cuts, length) for length in lengths]


def allot(sizes: Sequence[int], count: int) -> list[int]:
    """`count`, at most the sum of `sizes`, divided in proportion to `sizes` by the largest remainder method."""
    total = sum(sizes)
    count = min(count, total)
    if not count:
        return [0] * len(sizes)
    shares = [divmod(size * count, total) for size in sizes]
    quotas = [whole for whole, _ in shares]
    by_remainder = sorted(range(len(sizes)), key=lambda index: shares[index][1], reverse=True)
    for index in by_remainder[: count - sum(quotas)]:
        quotas[index] += 1
    return quotas


def prompts_hash(prompts: Sequence[Sequence[int]]) -> str:
    """sha256 over the token ids of every prompt, in order."""
    return hashlib.sha256(json.dumps([list(prompt) for prompt in prompts]).encode()).hexdigest()


def calibration_loader(prompts: Sequence[Sequence[int]]) -> Any:
    """A DataLoader with one unpadded prompt per batch, for llm-compressor."""
    import torch

    rows: list[dict[str, Any]] = [
        {
            "input_ids": torch.tensor([list(prompt)], dtype=torch.long),
            "attention_mask": torch.ones((1, len(prompt)), dtype=torch.long),
        }
        for prompt in prompts
    ]
    return torch.utils.data.DataLoader(rows, batch_size=None, shuffle=False)
