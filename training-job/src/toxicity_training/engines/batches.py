"""Batches of training rows, their loss and their order; both engines use them.

The order depends only on lengths, sizes, seed and epoch. The Trainer and the loop therefore see the same batches, and a
resumed training continues with the batches that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_training.engines.rows import EpochRows, Row
from toxicity_training.prompts import pad_left

IGNORED = -100
GROUP_BATCHES = 50
"""Optimizer steps whose rows are sorted by length together: more reduce padding, fewer keep the order random."""


def collate(rows: Sequence[Row], pad_id: int, pad_to: int = 0) -> dict[str, Any]:
    """A batch padded on the left to its longest row, at least to `pad_to` columns.

    `labels` (rows x longest label, in tokens) is padded on the left with -100; each label belongs to one of the last
    logits. `shift_labels` is the same tensor: it makes the Trainer count the labels without shifting them.
    """
    import torch

    longest = max(len(row["targets"]) for row in rows)
    targets = [[IGNORED] * (longest - len(row["targets"])) + row["targets"] for row in rows]
    labels = torch.tensor(targets, dtype=torch.long)
    batch = pad_left([row["input_ids"] for row in rows], pad_id, pad_to)
    return {**batch, "labels": labels, "shift_labels": labels}


def label_loss(model: Any, batch: dict[str, Any], items: Any) -> Any:
    """Cross entropy of the labels' tokens, summed over the batch and divided by `items`, a scalar tensor.

    If `items` counts the tokens of a whole optimizer step, the losses of its micro-batches add up to the mean over the
    step, whatever their sizes. Logits are computed for the positions of the labels only.
    """
    import torch

    labels = batch["labels"]
    inputs = {key: value for key, value in batch.items() if key not in ("labels", "shift_labels")}
    logits = model(**inputs, logits_to_keep=labels.shape[1], use_cache=False).logits
    flat = logits.float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="sum") / items


def plan_batches(
    lengths: Sequence[int], batch_size: int, accumulation: int, seed: int, epoch: int
) -> list[list[int]]:
    """The row indices of each micro-batch of an epoch, in order; every row occurs once.

    Rows of similar length share an optimizer step of `accumulation` micro-batches. Steps come in random order, but the
    longest row is in the first, so that memory runs out at once or never. Rows that fill no whole step form the last
    one.
    """
    random = Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    random.shuffle(order)
    rows = batch_size * accumulation
    whole = len(order) - len(order) % rows
    _move_longest(order, lengths, whole)
    steps: list[list[int]] = []
    for start in range(0, whole, rows * GROUP_BATCHES):
        group = sorted(order[start : min(start + rows * GROUP_BATCHES, whole)], key=lambda index: -lengths[index])
        steps += [group[first : first + rows] for first in range(0, len(group), rows)]
    random.shuffle(steps)
    if steps:
        longest = max(range(len(steps)), key=lambda step: lengths[steps[step][0]])
        steps[0], steps[longest] = steps[longest], steps[0]
    if whole < len(order):
        steps.append(order[whole:])
    return [step[first : first + batch_size] for step in steps for first in range(0, len(step), batch_size)]


def _move_longest(order: list[int], lengths: Sequence[int], whole: int) -> None:
    """Moves the longest row of `order` into its first `whole` places, which fill whole steps, if there are any."""
    longest = max(range(len(order)), key=lambda place: lengths[order[place]])
    if 0 < whole <= longest:
        order[0], order[longest] = order[longest], order[0]


def count_steps(rows: int, spec: TrainingSpec, processes: int = 1) -> tuple[int, int]:
    """(optimizer steps of one epoch, of the whole training) for `rows` rows, counted as the Trainer does."""
    micro_batches = math.ceil(math.ceil(rows / spec.batch_size) / processes)
    per_epoch = max(1, math.ceil(micro_batches / spec.gradient_accumulation_steps))
    return per_epoch, math.ceil(spec.epochs * per_epoch)


class GroupedBatches:
    """A batch sampler over `plan_batches`; both engines call `set_epoch` before each epoch."""

    def __init__(self, rows: EpochRows, spec: TrainingSpec, processes: int = 1) -> None:
        self._rows = rows
        self._spec = spec
        self._processes = processes
        self._epoch = 0
        # accelerate reads these to distribute batches among processes
        self.batch_size = spec.batch_size
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch of the batches and of the rows."""
        self._epoch = epoch
        self._rows.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        accumulation = self._spec.gradient_accumulation_steps * self._processes
        lengths = [len(self._rows[index]["input_ids"]) for index in range(len(self._rows))]
        return iter(plan_batches(lengths, self.batch_size, accumulation, self._spec.seed, self._epoch))
