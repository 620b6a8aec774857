"""Properties of splits and samples for many seeds, and the counts of the published data set."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity_api.normal_form.form import is_blank, normalise_text
from toxicity_api.spec import Split, TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_loadtest.corpus import read_texts
from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example, group_equal, normalise, summarise
from toxicity_training.sources.files import read_dataset
from toxicity_training.splits import (
    Splits,
    cap_evaluation,
    read_split,
    sample,
    split_examples,
    split_hash,
    write_splits,
)
from toxicity_training.stage import prepare

SEEDS = range(25)


def examples_of(seed: int, rows: int = 600, share: float = 0.3) -> list[Example]:
    """Distinct texts; a tenth is repeated in another spelling, half of these with the other label."""
    random = Random(seed)
    plain = [Example(f"Ёлка номер {index}!", random.random() < share) for index in range(rows)]
    copies = [
        Example(f"  елка, НОМЕР {index}", example.toxic if random.random() < 0.5 else not example.toxic)
        for index, example in enumerate(plain)
        if random.random() < 0.1
    ]
    everything = plain + copies
    random.shuffle(everything)
    return everything


def keys(examples: list[Example]) -> set[str]:
    return {normalise(e.text) for e in examples}


def share_of(examples: list[Example]) -> float:
    return sum(e.toxic for e in examples) / len(examples)


def test_normalise_joins_spellings_and_keeps_what_has_no_letters() -> None:
    assert normalise("Ёж, ТУТ!") == normalise("еж тут") == "ежтут"
    assert normalise(" !!! ") == "!!!"
    assert normalise("...") != normalise("!!!")


def test_texts_that_look_the_same_are_equal() -> None:
    """Each pair differs in bytes only: composed and decomposed letters, and what a reader does not see."""
    plain = [f"мой тупой ёж номер {number}" for number in range(40)]
    written = [unicodedata.normalize("NFD", text) if number % 2 else f"\u200bм\u00adо\u0301й{text[3:]}\n"
               for number, text in enumerate(plain)]  # fmt: skip
    rows = [
        Example(text, number % 3 == 0)
        for number, pair in enumerate(zip(plain, written, strict=True))
        for text in pair
    ]
    assert summarise(rows).duplicates == 40
    splits = split_examples(rows, Split(validation=0.2, test=0.2))
    train, validation, test = ({re.findall(r"\d+", e.text)[0] for e in part} for _, part in splits.items())
    assert not train & validation and not train & test and not validation & test


def test_split_puts_every_row_on_exactly_one_side_and_no_text_on_two() -> None:
    for seed in SEEDS:
        examples = examples_of(seed)
        splits = split_examples(examples, Split(validation=0.1, test=0.15, seed=seed))
        parts = [part for _, part in splits.items()]
        together = sorted((e.text, e.toxic) for part in parts for e in part)
        assert together == sorted((e.text, e.toxic) for e in examples)
        train, validation, test = map(keys, parts)
        assert not train & validation
        assert not train & test
        assert not validation & test


def test_split_keeps_sizes_and_the_share_of_toxic_rows() -> None:
    for seed in SEEDS:
        examples = examples_of(seed)
        splits = split_examples(examples, Split(validation=0.1, test=0.15, seed=seed))
        assert abs(len(splits.validation) - 0.1 * len(examples)) <= 3
        assert abs(len(splits.test) - 0.15 * len(examples)) <= 3
        for _, part in splits.items():
            assert abs(share_of(part) - share_of(examples)) < 0.06


def test_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    examples = examples_of(1)
    assert split_examples(examples, Split(seed=3)) == split_examples(examples, Split(seed=3))
    assert split_examples(examples, Split(seed=3)) != split_examples(examples, Split(seed=4))


def test_split_holds_a_text_repeated_many_times_together() -> None:
    examples = examples_of(2) + [Example("одно и то же", True)] * 150
    splits = split_examples(examples, Split(validation=0.1, test=0.1))
    assert (
        sum("однои" in key for part in (splits.train, splits.validation, splits.test) for key in keys(part)) == 1
    )


def every(step: int, rows: int) -> list[Example]:
    """Distinct texts; every `step`th is toxic."""
    return [Example(f"текст номер {index}", index % step == 0) for index in range(rows)]


def refused(config: TrainingConfig) -> str | None:
    """The stage's error for splits that lack a label; None if they have both."""
    try:
        prepare(config)
    except DatasetError as error:
        assert error.reason == "OneClassSplit"
        return str(error)
    return None


RAISED = {
    "training.maxEvaluationSamples": ("training", "max_evaluation_samples", 10_000),
    "training.maxSamples": ("training", "max_samples", 10_000),
    "dataset.split.validation": ("split", "validation", 0.4),
    "dataset.split.test": ("split", "test", 0.4),
}
"""By field: its place in the configuration, and a value that is large enough."""


def configured(folder: Path, rows: list[Example], split: Split, **training: int | None) -> TrainingConfig:
    return TrainingConfig(
        model="m",
        fingerprint="abc",
        artifacts=folder,
        dataset_path=source(folder, rows),
        text_column="comment",
        label_column="toxic",
        split=split,
        base_model_path=folder,
        training=TrainingSpec.model_validate(training),
    )


@pytest.mark.parametrize(
    ("rows", "split", "training", "field"),
    [
        (every(100, 3000), Split(), {"max_evaluation_samples": 30}, "training.maxEvaluationSamples"),
        (every(100, 3000), Split(), {"max_samples": 50}, "training.maxSamples"),
        (every(100, 3000), Split(), {"max_samples": 200}, "training.maxSamples"),
        (every(10, 40), Split(validation=0.1, test=0.2), {}, "dataset.split.validation"),
        (every(10, 40), Split(validation=0.2, test=0.1), {}, "dataset.split.test"),
        (every(10, 60), Split(), {"max_samples": 40}, "training.maxSamples"),
        (every(10, 40), Split(test=0.2), {"max_samples": 1000}, "dataset.split.validation"),
        (every(10, 40), Split(validation=0.2), {"max_samples": 35}, "dataset.split.test"),
        (every(10, 40), Split(test=0.2), {"max_evaluation_samples": 8}, "dataset.split.validation"),
    ],
)
def test_raising_the_field_that_is_named_cures_a_split_of_one_label(
    tmp_path: Path, rows: list[Example], split: Split, training: dict[str, int], field: str
) -> None:
    config = configured(tmp_path, rows, split, **training)
    sentence = refused(config)
    assert sentence is not None and sentence.startswith(f"{field}: ")
    assert sentence.endswith(f"raise {field} or add labelled comments")
    part, name, value = RAISED[field]
    changed = getattr(config, part).model_copy(update={name: value})
    assert refused(config.model_copy(update={part: changed})) is None


@settings(max_examples=60)
@given(
    toxic=st.integers(0, 12),
    harmless=st.integers(0, 200),
    split=st.builds(Split, validation=st.floats(0.01, 0.49), test=st.floats(0.01, 0.49)),
    max_samples=st.none() | st.integers(32, 120),
    max_evaluation_samples=st.none() | st.integers(8, 40),
)
def test_raising_what_is_named_again_and_again_ends(
    toxic: int, harmless: int, split: Split, max_samples: int | None, max_evaluation_samples: int | None
) -> None:
    rows = [Example(f"текст номер {index}", index < toxic) for index in range(toxic + harmless)]
    with TemporaryDirectory() as name:
        if not rows:
            return
        config = configured(
            Path(name), rows, split, max_samples=max_samples, max_evaluation_samples=max_evaluation_samples
        )
        named: list[str] = []
        while (sentence := refused(config)) and (field := sentence.split(":")[0]) in RAISED:
            assert field not in named, "a field that was raised is never named again"
            named.append(field)
            part, attribute, value = RAISED[field]
            if part == "split":  # a little: all at once may leave too few rows to the others
                value = raised_enough(config, attribute, field)
            config = config.model_copy(update={part: getattr(config, part).model_copy(update={attribute: value})})
        assert sentence is None or "add labelled comments" in sentence
        assert sentence is None or ("lower" in sentence or min(toxic, harmless) < 6)


def raised_enough(config: TrainingConfig, name: str, field: str) -> float:
    """The smallest larger share for which the error no longer names the field."""
    now = getattr(config.split, name)
    for share in (hundredths / 100 for hundredths in range(int(now * 100) + 1, 50)):
        split = config.split.model_copy(update={name: share})
        sentence = refused(config.model_copy(update={"split": split}))
        if sentence is None or sentence.split(":")[0] not in (field, "dataset.split"):
            return share
    raise AssertionError(f"no share of {field} cures what it is named for")


@pytest.mark.parametrize("toxic", [0, 1, 2])
def test_too_few_of_a_label_for_three_splits_is_cured_by_comments_alone(toxic: int, tmp_path: Path) -> None:
    rows = [Example(f"текст {index}", index < toxic) for index in range(50)]
    for training in ({}, {"max_samples": 40}, {"max_evaluation_samples": 8}):
        sentence = refused(configured(tmp_path, rows, Split(), **training)) or ""
        assert sentence.startswith("dataset: ") and sentence.endswith("both are needed; add labelled comments")


def copies(text: str, count: int) -> list[Example]:
    return [Example(text, True)] * count


@pytest.mark.parametrize(
    ("size", "small", "field"),
    [
        (98, 4, "dataset.split.validation: the validation split has 0 toxic and 10 others"),  # is 49 % of 200
        (99, 2, "dataset: the validation split has 0 toxic and 10 others"),  # needs half of 200
    ],
)
def test_shares_below_a_half_are_tried_for_texts_with_many_copies(
    size: int, small: int, field: str, tmp_path: Path
) -> None:
    """Three toxic texts, of which the small one goes to the test split."""
    harmless = [Example(f"текст {index}", False) for index in range(100)]
    rows = harmless + copies("раз", size) + copies("два", size) + copies("три", small)
    assert (refused(configured(tmp_path, rows, Split(validation=0.1, test=0.1))) or "").startswith(field)


def test_validation_share_that_cannot_be_raised_is_not_named(tmp_path: Path) -> None:
    rows = [Example(f"текст {index}", index < 1) for index in range(50)]
    sentence = refused(configured(tmp_path, rows, Split(validation=0.49, test=0.1))) or ""
    assert sentence.startswith("dataset: the validation split has 0 toxic")


def test_split_without_harmless_rows_is_counted(tmp_path: Path) -> None:
    rows = [Example(f"текст {index}", index > 1) for index in range(52)]
    sentence = refused(configured(tmp_path, rows, Split(validation=0.1, test=0.1))) or ""
    assert "the validation split has 5 toxic and 0 others, both are needed" in sentence


def test_split_of_a_seed_is_pinned() -> None:
    """Models of several versions are compared on the same rows. One text has both labels, mostly harmless."""
    disputed = [Example("спор", True), Example("Спор!", False), Example("спор...", False)]
    splits = split_examples(examples_of(3, rows=80) + disputed, Split(validation=0.2, test=0.3, seed=5), limit=60)
    assert split_hash(splits) == "3506ec79eb6a4288d142f21ead3dbf6740d5f7fa7f6045c71efe01e30c0008d4"


def test_small_sample_with_large_shares_is_cured_by_more_samples_and_then_lower_shares(tmp_path: Path) -> None:
    rows = [Example(f"текст номер {index}", index < 6) for index in range(134)]
    shares = Split(validation=0.4375, test=0.4375)
    assert (refused(configured(tmp_path, rows, shares, max_samples=32)) or "").startswith("training.maxSamples: ")
    assert (refused(configured(tmp_path, rows, shares)) or "").startswith("dataset.split: ")
    assert refused(configured(tmp_path, rows, Split(validation=0.2, test=0.2))) is None


def test_split_that_leaves_nothing_to_train_on_is_cured_by_lower_shares(tmp_path: Path) -> None:
    config = configured(tmp_path, every(10, 40), Split(validation=0.45, test=0.45))
    sentence = refused(config) or ""
    assert sentence.startswith("dataset.split: the train split has 0 toxic")
    assert "lower dataset.split.validation and dataset.split.test, or add" in sentence
    assert refused(config.model_copy(update={"split": Split(validation=0.25, test=0.25)})) is None


def test_sample_draws_about_the_limit_stratified_and_seeded() -> None:
    for seed in SEEDS:
        examples = examples_of(seed)
        drawn = sample(examples, 200, seed)
        assert 198 <= len(drawn) <= 200
        assert abs(share_of(drawn) - share_of(examples)) < 0.05
        assert drawn == sample(examples, 200, seed)
    assert sample(examples, 200, 1) != sample(examples, 200, 2)


def test_sample_returns_everything_when_it_fits() -> None:
    examples = examples_of(0)
    assert sample(examples, None, 0) == examples
    assert sample(examples, len(examples), 0) == examples


def test_cap_evaluation_cuts_validation_and_test_only() -> None:
    splits = split_examples(examples_of(0), Split(validation=0.2, test=0.2))
    capped = cap_evaluation(splits, 30, 7)
    assert capped.train == splits.train
    assert 28 <= len(capped.validation) <= 30
    assert 28 <= len(capped.test) <= 30
    assert set(capped.test) <= set(splits.test)


def test_cap_evaluation_refuses_a_test_split_of_one_label() -> None:
    both = [Example("a", True), Example("b", False)]
    with pytest.raises(DatasetError, match=r"dataset\.split\.test"):
        cap_evaluation(Splits(both, both, [Example("c", False)]), 8, 0)


CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
AWKWARD = f"{CONTROLS}\r\n\"',;\\ \u2028\u2029\ufeff\u0301ё😀"
"""Every control character, and other characters that a CSV or line reader may interpret."""

characters = st.sampled_from(AWKWARD) | st.characters(exclude_categories=["Cs"])
texts = st.text(characters, min_size=1).filter(lambda text: not is_blank(text))
awkward_examples = st.builds(Example, texts, st.booleans())


def source(folder: Path, examples: list[Example]) -> Path:
    """Writes a data set with these rows, each field in quotes."""
    rows = (f'"{example.text.replace(chr(34), 2 * chr(34))}",{int(example.toxic)}\n' for example in examples)
    path = folder / "comments.csv"
    path.write_bytes(("comment,toxic\n" + "".join(rows)).encode())
    return path


def check_round_trip(examples: list[Example]) -> None:
    """The rows are unchanged after they are written to and read from split files, also by the load test."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        read = read_dataset(source(folder, examples), "comment", "toxic")
        assert read == examples
        splits = Splits(read, read[:2], read[1:] or read)
        write_splits(splits, folder)
        for part, rows in splits.items():
            assert read_split(folder, part) == rows
            if texts := [form for row in rows if (form := normalise_text(row.text))]:
                assert read_texts(folder / f"{part}.csv") == texts


@given(st.lists(awkward_examples, min_size=1, max_size=6))
def test_splits_come_back_from_their_files_as_they_were(examples: list[Example]) -> None:
    check_round_trip(examples)


@pytest.mark.parametrize("place", ["{}a", "a{}b", "a{}", " {} a "])
def test_splits_come_back_whatever_character_a_text_has_wherever(place: str) -> None:
    check_round_trip([Example(place.format(character), True) for character in (*AWKWARD, "\r\n", "\n\r", '""')])


def test_splits_are_lines_that_end_alike(tmp_path: Path) -> None:
    rows = [Example('он сказал "да", и ушёл', True), Example("нет", False)]
    folder = tmp_path / "train-1" / "splits"
    write_splits(Splits(rows, rows, rows), folder)
    assert (folder / "test.csv").read_bytes().decode() == (
        '"text","label"\n"он сказал ""да"", и ушёл",1\n"нет",0\n'
    )


def test_summarise_counts_duplicates_and_contradictions() -> None:
    rows = [Example("Ёж", True), Example("еж!", False), Example("еж", True), Example("кот", False)]
    rows += [Example("пёс", False)] * 2 + [Example("уж", True), Example("лис", False)]
    summary = summarise(rows)
    assert (summary.rows, summary.toxic, summary.duplicates, summary.contradictions) == (8, 3, 3, 1)
    assert str(summary) == "8 rows, 3 toxic (37.5%), 3 duplicates, 1 texts with both labels"
    assert str(summarise([])) == "0 rows, 0 toxic (0.0%), 0 duplicates, 0 texts with both labels"


@pytest.fixture
def genuine() -> list[Example]:
    path = os.environ.get("TOXICITY_DATASET", "")
    if not Path(path).is_file():
        pytest.fail("TOXICITY_DATASET names no file: set it to the data set, or deselect the marker `dataset`")
    return read_dataset(Path(path), "comment", "toxic")


@pytest.mark.dataset
def test_genuine_data_set_has_its_published_counts_and_splits_without_leaks(genuine: list[Example]) -> None:
    summary = summarise(genuine)
    assert (summary.rows, summary.toxic) == (14412, 4826)
    assert sum(len(group) > 1 for group in group_equal(genuine)) >= 257
    splits = split_examples(genuine, Split())
    assert [len(part) for _, part in splits.items()] == [11530, 1441, 1441]
    assert not keys(splits.train) & (keys(splits.validation) | keys(splits.test))
    for _, part in splits.items():
        assert abs(share_of(part) - 0.335) < 0.005


ONE, OTHER, THIRD = Example("спасибо", False), Example("дебил", True), Example("ёж", False)


def test_split_hash_tells_splits_apart_that_differ_in_anything() -> None:
    """Lineage compares data sets by it: a relabelled one is another one."""
    splits = Splits([ONE, OTHER], [THIRD], [OTHER])
    others = {
        "a label": Splits([Example("спасибо", True), OTHER], [THIRD], [OTHER]),
        "a text": Splits([Example("спасибо!", False), OTHER], [THIRD], [OTHER]),
        "the order": Splits([OTHER, ONE], [THIRD], [OTHER]),
        "the split of a row": Splits([ONE], [OTHER, THIRD], [OTHER]),
        "a row more": Splits([ONE, OTHER], [THIRD], [OTHER, ONE]),
        "the names": Splits([ONE, OTHER], [OTHER], [THIRD]),
    }
    hashes = {name: split_hash(other) for name, other in others.items()}
    assert len({split_hash(splits), *hashes.values()}) == 1 + len(others), hashes


def test_split_hash_is_pinned() -> None:
    """It stands in the status of trained models, and a later version must find the same split equal."""
    assert (
        split_hash(Splits([ONE, OTHER], [THIRD], [OTHER]))
        == "5bdb772cc31c804866fb9a0c90e646fb01c99e4a520e60c134567bb834f50322"
    )


def test_half_toxic_group_is_drawn_with_the_toxic_ones() -> None:
    """Of ten such groups and ten harmless ones, both strata give their share to each part."""
    disputed = [Example(text, toxic) for text in (f"спор {i}" for i in range(10)) for toxic in (True, False)]
    harmless = [Example(f"мир {i}", False) for i in range(20)]
    splits = split_examples(disputed + harmless, Split(validation=0.2, test=0.3))
    for part, groups in ((splits.validation, 2), (splits.test, 3)):
        assert sum("спор" in example.text for example in part) == 2 * groups
        assert sum("мир" in example.text for example in part) == 2 * groups
