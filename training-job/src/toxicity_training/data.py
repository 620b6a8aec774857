"""Reads labelled comments strictly and splits them; the first step of the training stage, pure Python.

The quantization stage reads the split files back with the same reader.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from toxicity_api.spec import Split
from toxicity_stage.errors import DatasetError, listed

TEXT, LABEL = "text", "label"
SPLIT_NAMES = ("train", "validation", "test")
FIELD_LIMIT = 10_000_000
"""Longest field in characters; a longer one means an unclosed quote."""

SHOWN = 40
"""Characters of a value that a message shows: the file may have a comment in every place."""

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Example:
    """One comment; `toxic` is its label."""

    text: str
    toxic: bool


@dataclass(frozen=True)
class Splits:
    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def items(self) -> list[tuple[str, list[Example]]]:
        """(name, rows) of each split."""
        return list(zip(SPLIT_NAMES, (self.train, self.validation, self.test), strict=True))


@dataclass(frozen=True)
class DatasetSummary:
    rows: int
    toxic: int
    duplicates: int
    """rows beyond the first of each group of texts that are equal after normalisation"""
    contradictions: int
    """groups of such texts that carry both labels"""

    def __str__(self) -> str:
        share = self.toxic / self.rows if self.rows else 0.0
        return (
            f"{self.rows} rows, {self.toxic} toxic ({share:.1%}), {self.duplicates} duplicates,"
            f" {self.contradictions} texts with both labels"
        )


def shown(value: str) -> str:
    """`value` in quotes for a message, its beginning where it is long."""
    words = repr(value[: SHOWN + 1])
    return words if len(words) <= SHOWN + 2 else f"{words[: SHOWN + 1]}…{words[0]}"


def read_dataset(path: Path, text_column: str, label_column: str) -> list[Example]:
    """All rows of a CSV file (plain or gzip, UTF-8, with a header) in their order.

    Raises DatasetError naming the field of the spec, the first bad row (counted from 1, without the header)
    and the remedy.
    """
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    csv.field_size_limit(FIELD_LIMIT)
    rows = _records(reader)
    _, header = next(rows, (0, None))
    if header is None:
        raise DatasetError("EmptyFile", f"dataset: {path.name} is empty; provide a CSV file with a header row")
    text_index = _column(header, text_column, "dataset.textColumn", path)
    label_index = _column(header, label_column, "dataset.labelColumn", path)
    if text_index == label_index:
        raise DatasetError(
            "SameColumn",
            f"dataset.textColumn and dataset.labelColumn both name {shown(text_column)}; name two columns",
        )
    numbered = [(number, _fields(row, number, len(header))) for number, row in rows]
    if not numbered:
        raise DatasetError("NoRows", f"dataset: {path.name} has a header and no rows; add labelled comments")
    _refuse_empty(numbered, text_index, text_column)
    return [
        Example(row[text_index], _parse_label(row[label_index], number, label_column)) for number, row in numbered
    ]


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError("FileUnreadable", f"dataset: cannot read {path}: {error.strerror}") from error
    if raw.startswith(_GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(
                "CorruptGzip", f"dataset: {path.name} is a broken gzip file ({error}); compress it again"
            ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            "WrongEncoding",
            f"dataset: {path.name} is not UTF-8 (byte 0x{raw[error.start]:02x} in line {line}); save it as UTF-8",
        ) from error


def _records(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(row number, fields): the header is row 0; blank lines are skipped and not counted."""
    number = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(
                "InvalidCsv", f"dataset: {_place(number)} is not valid CSV ({error}); quote fields as in RFC 4180"
            ) from error
        if row:
            yield number, row
            number += 1


def _place(number: int) -> str:
    return f"row {number}" if number else "the header"


def _column(header: Sequence[str], name: str, field: str, path: Path) -> int:
    if header.count(name) > 1:
        raise DatasetError(
            "AmbiguousColumn", f"{field}: column {shown(name)} occurs twice in {path.name}; rename one"
        )
    if name not in header:
        raise DatasetError(
            "MissingColumn",
            f"{field}: no column {shown(name)} in {path.name}, which has {listed([*map(shown, header)])};"
            f" set {field} to one of them",
        )
    return header.index(name)


def _fields(row: list[str], number: int, expected: int) -> list[str]:
    if len(row) != expected:
        raise DatasetError(
            "InvalidCsv",
            f"dataset: row {number} has {len(row)} fields where the header has {expected};"
            " quote texts that contain commas",
        )
    return row


def _refuse_empty(numbered: Iterable[tuple[int, list[str]]], index: int, column: str) -> None:
    empty = [number for number, row in numbered if not row[index].strip()]
    if empty:
        raise DatasetError(
            "EmptyText",
            f"dataset.textColumn: {len(empty)} empty texts in column {shown(column)}, the first in row {empty[0]};"
            " remove these rows",
        )


def _parse_label(value: str, number: int, column: str) -> bool:
    try:
        parsed = float(value)
    except ValueError:
        parsed = float("nan")
    if parsed not in (0.0, 1.0):
        raise DatasetError(
            "InvalidLabel",
            f"dataset.labelColumn: {shown(value)} in column {shown(column)}, row {number}, is not a label;"
            " use 1 (toxic) or 0 (not toxic)",
        )
    return parsed == 1.0


def normalise(text: str) -> str:
    """`text` in lower case, ё as е, letters and digits only; the stripped text where nothing would be left."""
    kept = "".join(c for c in text.lower().replace("ё", "е") if c.isalnum())
    return kept or text.strip()


def group_equal(examples: Iterable[Example]) -> list[list[Example]]:
    """Examples with equal normalised texts together, in the order of their first occurrence."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(normalise(example.text), []).append(example)
    return list(groups.values())


def summarise(examples: Sequence[Example]) -> DatasetSummary:
    """The counts that the stage prints before it starts."""
    groups = group_equal(examples)
    return DatasetSummary(
        rows=len(examples),
        toxic=sum(e.toxic for e in examples),
        duplicates=len(examples) - len(groups),
        contradictions=sum(len({e.toxic for e in group}) > 1 for group in groups),
    )


Groups = list[list[Example]]


def _is_toxic(group: Sequence[Example]) -> bool:
    return 2 * sum(e.toxic for e in group) >= len(group)


def _draw(groups: Groups, rows: int) -> tuple[Groups, Groups]:
    """(taken, left): whole groups in their order, as many as fit into `rows`."""
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
    """About `limit` rows with the share of toxic ones kept, shuffled; all rows as they are when they fit."""
    if limit is None or len(examples) <= limit:
        return list(examples)
    random = Random(seed)
    toxic, harmless = _strata(examples, random)
    toxic_rows = round(limit * _rows(toxic) / len(examples))
    parts = [_draw(toxic, toxic_rows)[0], _draw(harmless, limit - toxic_rows)[0]]
    return _flatten(parts, random)


Parts = tuple[list[Groups], list[Groups], list[Groups]]
"""(train, validation, test), each with its groups of either stratum."""


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
    """Stratified and seeded, of about `limit` rows; texts equal after normalisation never lie in two splits.

    Raises DatasetError when a split would lack one of the labels.
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
    """(field, what to do with it) for a one-class split, by trial; it is the first such one of SPLIT_NAMES."""
    drawn = sample(examples, limit, split.seed)
    cut = len(drawn) < len(examples)
    raise_samples = "training.maxSamples", "raise training.maxSamples or "
    if cut and _is_whole(examples, [split], index):
        return raise_samples
    if cure := _cure_by_shares(index, drawn, split):
        return cure
    return raise_samples if cut and _cure_by_shares(index, examples, split) else ("dataset", "")


def _cure_by_shares(index: int, examples: Sequence[Example], split: Split) -> tuple[str, str] | None:
    shares = [hundredths / 100 for hundredths in range(1, 50)]
    old = {"validation": split.validation, "test": split.test}
    if index == 0:
        lower = [split.model_copy(update=dict.fromkeys(old, s)) for s in shares if s < min(old.values())]
        remedy = "lower dataset.split.validation and dataset.split.test, or "
        return ("dataset.split", remedy) if _is_whole(examples, lower) else None
    name = SPLIT_NAMES[index]
    higher = [split.model_copy(update={name: s}) for s in shares if s > old[name]]
    # the other share may be too small as well; if raising that too leaves no rows to train on, neither is a cure
    both = [split.model_copy(update={n: max(s, share) for n, share in old.items()}) for s in shares]
    cures = _is_whole(examples, higher, index) and _is_whole(examples, both)
    return (f"dataset.split.{name}", f"raise dataset.split.{name} or ") if cures else None


def _is_whole(examples: Sequence[Example], tried: Sequence[Split], up_to: int = 2) -> bool:
    """Whether one of the tried ways to split gives both labels to each part up to that one of SPLIT_NAMES."""
    if not tried or not _has_both(examples):
        return False
    strata = _strata(examples, Random(tried[0].seed))
    return any(_first_one_class(_parts(strata, each)) > up_to for each in tried)


def _first_one_class(parts: Parts) -> int:
    """The place of the first split that lacks a label; their number when none does."""
    both = [_has_both(e for groups in part for group in groups for e in group) for part in parts]
    return [*both, False].index(False)


def cap_evaluation(splits: Splits, limit: int | None, seed: int) -> Splits:
    """`splits` with validation and test cut to about `limit` rows each, stratified.

    Raises DatasetError when a cut split would lack one of the labels.
    """
    capped = Splits(splits.train, sample(splits.validation, limit, seed), sample(splits.test, limit, seed))
    for (name, part), (_, whole) in zip(capped.items(), splits.items(), strict=True):
        if not _has_both(part):
            field = "training.maxEvaluationSamples" if _has_both(whole) else f"dataset.split.{name}"
            raise _one_class(name, part, field, f"raise {field} or ")
    return capped


def split_hash(splits: Splits) -> str:
    """sha256 over name, text and label of every row, in order: equal only for the very same split."""
    digest = hashlib.sha256()
    for name, examples in splits.items():
        for example in examples:
            digest.update(json.dumps([name, example.text, example.toxic], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def write_splits(splits: Splits, folder: Path) -> None:
    """Each split as `<name>.csv` with the columns text,label; `read_split` gives back the very same rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, examples in splits.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            # every text in quotes: with this line end the writer would leave a lone "\r" bare, which ends a row as well
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow([TEXT, LABEL])
            writer.writerows([e.text, int(e.toxic)] for e in examples)


def read_split(folder: Path, name: str) -> list[Example]:
    """Rows of a split that `write_splits` wrote. Raises DatasetError when it is missing or damaged."""
    return read_dataset(folder / f"{name}.csv", TEXT, LABEL)
