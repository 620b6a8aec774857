"""Training rows as token ids. In each epoch a share of them has distorted spelling.

The rows depend only on examples, spec and epoch. Both engines therefore train on the same rows, and a resumed training
continues with those that it was interrupted at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from toxicity_api.prompting import build_prompt
from toxicity_api.spec import Labels, TrainingSpec
from toxicity_stage.errors import ModelError
from toxicity_training.augmentation import augment
from toxicity_training.dataset import Example
from toxicity_training.prompts import build_prompts, find_label_tokens

Row = dict[str, list[int]]
Variants = Callable[[int], Mapping[int, Row]]
"""The rows of an epoch that replace the plain ones, by index."""


class EpochRows(Sequence[Row]):
    """The rows of the epoch that `set_epoch` selected; a data set for torch's DataLoader."""

    def __init__(self, plain: Sequence[Row], variants: Variants = lambda epoch: {}) -> None:
        self._plain = plain
        self._variants = variants
        self._rows: list[Row] = []
        self._epoch = -1
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Selects the rows of `epoch`, counted from 0."""
        if epoch == self._epoch:
            return
        replaced = self._variants(epoch)
        self._rows = [replaced.get(index, row) for index, row in enumerate(self._plain)]
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]


def training_rows(tokenizer: Any, examples: Sequence[Example], spec: TrainingSpec) -> EpochRows:
    """The rows of `examples`, augmented as in the spec. Raises ModelError as `build_rows` does."""
    plain = build_rows(tokenizer, examples, spec)
    if not spec.augmentation.share:
        return EpochRows(plain)
    longest = max(len(row["input_ids"]) - len(row["targets"]) + 1 for row in plain)

    def variants(epoch: int) -> dict[int, Row]:
        found = {}
        for index in choose_rows(len(plain), spec, epoch):
            text = augment(examples[index].text, f"{spec.seed}/{epoch}/{index}")
            prompt = build_prompt(tokenizer, spec.prompt_format, text, longest)
            # a variant that has to be cut may lose what makes it toxic; and no batch needs more memory than without
            if not prompt.truncated:
                answer = plain[index]["targets"]
                found[index] = {"input_ids": prompt.ids + answer[:-1], "targets": answer}
        return found

    return EpochRows(plain, variants)


def choose_rows(rows: int, spec: TrainingSpec, epoch: int) -> list[int]:
    """The indices of the rows that are augmented in an epoch."""
    random = Random(f"{spec.seed}/{epoch}/augmentation")
    return sorted(random.sample(range(rows), round(rows * spec.augmentation.share)))


def build_rows(tokenizer: Any, examples: Sequence[Example], spec: TrainingSpec) -> list[Row]:
    """input_ids (prompt, then the label without its last token) and targets (the label) of each example.

    The logit at the position before a label token predicts it, so the last `len(targets)` positions are trained.
    Raises ModelError if the labels share a first token or are too long, or the template leaves no room for text.
    """
    find_label_tokens(tokenizer, spec.labels)
    answers = _answers(tokenizer, spec.labels, spec.max_target_length)
    texts = [example.text for example in examples]
    prompts = build_prompts(tokenizer, spec.prompt_format, texts, spec.max_input_tokens, "training.maxInputLength")
    return [
        {"input_ids": prompt + answers[example.toxic][:-1], "targets": answers[example.toxic]}
        for prompt, example in zip(prompts, examples, strict=True)
    ]


def _answers(tokenizer: Any, labels: Labels, limit: int) -> dict[bool, list[int]]:
    answers = {
        toxic: list(tokenizer(word, add_special_tokens=False)["input_ids"])
        for toxic, word in ((True, labels.toxic), (False, labels.non_toxic))
    }
    longest = max(map(len, answers.values()))
    if longest > limit:
        raise ModelError(
            "LabelTooLong",
            f"training.labels: a label has {longest} tokens, training.maxTargetLength allows {limit};"
            " choose a shorter word or raise the limit",
        )
    return answers
