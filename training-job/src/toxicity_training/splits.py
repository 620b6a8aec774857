"""Splits labelled comments into train, validation and test, stratified and seeded, and stores the splits as CSV.

Pure apart from `write_splits` and `read_split`. The quantization and evaluation stages read the stored splits.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from toxicity_api.spec import Split
from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example, group_equal
from toxicity_training.sources.files import read_rows

TEXT, LABEL = "text", "label"
SPLIT_NAMES = ("train", "validation", "test")
SHARES = [hundredths / 100 for hundredths in range(1, 50)]
"""The shares below a half that are tried to find out what would give a split both labels."""


@dataclass(frozen=True)
class Splits:
    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def items(self) -> list[tuple[str, list[Example]]]:
        """(name, rows) of each split."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]


Groups = list[list[Example]]


def _is_toxic(group: Sequence[Example]) -> bool:
    return 2 * sum(e.toxic for e in group) >= len(group)


def _draw(groups: Groups, rows: int) -> tuple[Groups, Groups]:
    """(taken, left): whole groups in order, as many as fit into `rows`."""
    taken: Groups = []
    left: Groups = []
    room = rows
    for group in groups:
        if len(group) <= room:
            taken.append(group)
            room -= len(group)
        else:
            left.append(group)
    return taken, left


def _strata(examples: Iterable[Example], random: Random) -> tuple[Groups, Groups]:
    """(toxic, harmless) groups, each shuffled."""
    groups = group_equal(examples)
    toxic, harmless = [g for g in groups if _is_toxic(g)], [g for g in groups if not _is_toxic(g)]
    random.shuffle(toxic)
    random.shuffle(harmless)
    return toxic, harmless


def _flatten(strata: Iterable[Groups], random: Random) -> list[Example]:
    rows = [example for groups in strata for group in groups for example in group]
    random.shuffle(rows)
    return rows


def _rows(groups: Groups) -> int:
    return sum(len(group) for group in groups)


def sample(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """About `limit` rows, shuffled, with the same share of toxic rows; all rows unchanged if there are no more."""
    if limit is None or len(examples) <= limit:
        return list(examples)
    random = Random(seed)
    toxic, harmless = _strata(examples, random)
    toxic_rows = round(limit * _rows(toxic) / len(examples))
    parts = [_draw(toxic, toxic_rows)[0], _draw(harmless, limit - toxic_rows)[0]]
    return _flatten(parts, random)


Parts = tuple[list[Groups], list[Groups], list[Groups]]
"""(train, validation, test), each with its groups of both strata."""


def _parts(strata: Iterable[Groups], split: Split) -> Parts:
    train: list[Groups] = []
    validation: list[Groups] = []
    test: list[Groups] = []
    for stratum in strata:
        rows = _rows(stratum)
        taken, left = _draw(stratum, round(rows * split.test))
        test.append(taken)
        taken, left = _draw(left, round(rows * split.validation))
        validation.append(taken)
        train.append(left)
    return train, validation, test


def split_examples(examples: Sequence[Example], split: Split, limit: int | None = None) -> Splits:
    """Splits about `limit` rows, stratified and seeded; texts equal after normalisation are in the same split.

    Raises DatasetError if a split would lack one of the labels.
    """
    random = Random(split.seed)
    parts = _parts(_strata(sample(examples, limit, split.seed), random), split)
    splits = Splits(*(_flatten(part, random) for part in parts))
    for index, (name, part) in enumerate(splits.items()):
        if not _has_both(part):
            raise _one_class(name, part, *_cure(index, examples, split, limit))
    return splits


def _has_both(examples: Iterable[Example]) -> bool:
    return len({e.toxic for e in examples}) > 1


def _one_class(name: str, examples: Sequence[Example], field: str, remedy: str) -> DatasetError:
    toxic = sum(e.toxic for e in examples)
    counts = f"the {name} split has {toxic} toxic and {len(examples) - toxic} others, both are needed"
    return DatasetError("OneClassSplit", f"{field}: {counts}; {remedy}add labelled comments")


def _cure(index: int, examples: Sequence[Example], split: Split, limit: int | None) -> tuple[str, str]:
    """(field, what to do with it) for the first split of SPLIT_NAMES that has one label, found by trial."""
    drawn = sample(examples, limit, split.seed)
    cut = len(drawn) < len(examples)
    raise_samples = "training.maxSamples", "raise training.maxSamples or "
    if cut and _is_whole(examples, [split], index):
        return raise_samples
    if cure := _cure_by_shares(index, drawn, split):
        return cure
    # all rows may need other shares too; the next error names them
    if cut and (_cure_by_shares(index, examples, split) or _is_whole(examples, _equal_shares(split))):
        return raise_samples
    return "dataset", ""


def _equal_shares(split: Split) -> list[Split]:
    """`split` with the same share of validation and test rows, for each of SHARES."""
    return [split.model_copy(update={"validation": share, "test": share}) for share in SHARES]


def _cure_by_shares(index: int, examples: Sequence[Example], split: Split) -> tuple[str, str] | None:
    old = {"validation": split.validation, "test": split.test}
    if index == 0:
        lower = [each for each in _equal_shares(split) if each.test < min(old.values())]
        remedy = "lower dataset.split.validation and dataset.split.test, or "
        return ("dataset.split", remedy) if _is_whole(examples, lower) else None
    name = SPLIT_NAMES[index]
    higher = [split.model_copy(update={name: s}) for s in SHARES if s > old[name]]
    # the other share may be too small as well; raising both helps only if rows to train on are left
    both = [split.model_copy(update={n: max(s, share) for n, share in old.items()}) for s in SHARES]
    cures = _is_whole(examples, higher, index) and _is_whole(examples, both)
    return (f"dataset.split.{name}", f"raise dataset.split.{name} or ") if cures else None


def _is_whole(examples: Sequence[Example], tried: Sequence[Split], up_to: int = 2) -> bool:
    """Whether one of the `tried` splits gives both labels to each part of SPLIT_NAMES up to index `up_to`."""
    if not tried or not _has_both(examples):
        return False
    strata = _strata(examples, Random(tried[0].seed))
    return any(_first_one_class(_parts(strata, each)) > up_to for each in tried)


def _first_one_class(parts: Parts) -> int:
    """The index of the first split that lacks a label; the number of splits if none does."""
    both = [_has_both(e for groups in part for group in groups for e in group) for part in parts]
    return [*both, False].index(False)


def cap_evaluation(splits: Splits, limit: int | None, seed: int) -> Splits:
    """`splits` with validation and test cut to about `limit` rows each, stratified.

    Raises DatasetError if a cut split would lack one of the labels.
    """
    capped = Splits(splits.train, sample(splits.validation, limit, seed), sample(splits.test, limit, seed))
    for (name, part), (_, whole) in zip(capped.items(), splits.items(), strict=True):
        if not _has_both(part):
            field = "training.maxEvaluationSamples" if _has_both(whole) else f"dataset.split.{name}"
            raise _one_class(name, part, field, f"raise {field} or ")
    return capped


def split_hash(splits: Splits) -> str:
    """sha256 over split name, text and label of every row, in order: equal for the same splits only."""
    digest = hashlib.sha256()
    for name, examples in splits.items():
        for example in examples:
            digest.update(json.dumps([name, example.text, example.toxic], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def write_splits(splits: Splits, folder: Path) -> None:
    """Writes each split as `<name>.csv` with the columns text,label; `read_split` returns the same rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, examples in splits.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            # quote every text: with this line terminator the writer would not quote a lone "\r", which ends a row too
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow([TEXT, LABEL])
            writer.writerows([e.text, int(e.toxic)] for e in examples)


def read_split(folder: Path, name: str) -> list[Example]:
    """The rows of a split that `write_splits` wrote. Raises DatasetError if it is missing or damaged."""
    return read_rows(folder / f"{name}.csv", TEXT, LABEL)
