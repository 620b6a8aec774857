"""Every invalid data set is refused with the field of the spec, the first invalid row and the remedy."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxicity_stage.delimited import SHOWN, shown
from toxicity_stage.errors import DatasetError
from toxicity_training.dataset import Example
from toxicity_training.sources.files import read_dataset


def written(folder: Path, content: bytes | str, name: str = "comments.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def refused(path: Path, text: str = "comment", label: str = "toxic") -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        read_dataset(path, text, label)
    return caught.value


def test_read_dataset_keeps_rows_in_order_when_the_file_is_sound(tmp_path: Path) -> None:
    path = written(tmp_path, 'comment,toxic\n"привет, мир",0\n"две\nстроки",1\n"он сказал ""да""",1.0\n')
    assert read_dataset(path, "comment", "toxic") == [
        Example("привет, мир", False),
        Example("две\nстроки", True),
        Example('он сказал "да"', True),
    ]


@pytest.mark.parametrize(("written_label", "toxic"), [("0", False), ("1", True), ("0.0", False), ("1.0", True)])
def test_read_dataset_accepts_labels_as_numbers(tmp_path: Path, written_label: str, toxic: bool) -> None:
    path = written(tmp_path, f'comment,toxic\nтекст,"{written_label}"\n')
    assert read_dataset(path, "comment", "toxic") == [Example("текст", toxic)]


def test_read_dataset_reads_gzip_whatever_the_name(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress("comment,toxic\nтекст,1\n".encode()), "data")
    assert read_dataset(path, "comment", "toxic") == [Example("текст", True)]


def test_read_dataset_ignores_a_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + "comment,toxic\nтекст,1\n".encode())
    assert read_dataset(path, "comment", "toxic") == [Example("текст", True)]


@pytest.mark.parametrize(
    ("text", "label", "field", "missing"),
    [("body", "toxic", "dataset.textColumn", "'body'"), ("comment", "y", "dataset.labelColumn", "'y'")],
)
def test_read_dataset_names_the_field_and_the_columns_when_one_is_missing(
    tmp_path: Path, text: str, label: str, field: str, missing: str
) -> None:
    error = refused(written(tmp_path, "comment,toxic\nтекст,1\n"), text, label)
    assert error.reason == "MissingColumn"
    assert str(error).startswith(f"{field}: no column {missing}")
    assert "'comment', 'toxic'" in str(error)
    assert f"set {field}" in str(error)


@pytest.mark.parametrize("bad", ["2", "да", "", "nan", "0.5", "-1"])
def test_read_dataset_names_the_row_and_the_value_when_a_label_is_neither_0_nor_1(
    tmp_path: Path, bad: str
) -> None:
    error = refused(written(tmp_path, f"comment,toxic\nодин,1\nдва,{bad}\nтри,7\n"))
    assert error.reason == "InvalidLabel"
    assert str(error) == (
        f"dataset.labelColumn: {bad!r} in column 'toxic', row 2 of comments.csv, is not a label; use 1 (toxic) or 0"
        " (not toxic)"
    )


def test_read_dataset_counts_empty_texts_and_names_the_first(tmp_path: Path) -> None:
    error = refused(written(tmp_path, 'comment,toxic\nодин,1\n"  ",0\n"",1\n'))
    assert error.reason == "EmptyText"
    assert "dataset.textColumn: 2 texts in column 'comment' of comments.csv have no visible" in str(error)
    assert "first in row 2; remove" in str(error)


@pytest.mark.parametrize(
    ("content", "reason", "remedy"),
    [
        (b"", "EmptyFile", "provide a CSV file with a header row"),
        (b"\n\n", "EmptyFile", "provide a CSV file with a header row"),
        (b"comment,toxic\n", "NoRows", "add labelled comments"),
        (
            "comment,toxic\nтекст,1\n".encode("cp1251"),
            "WrongEncoding",
            "in line 2); in Excel, save it as CSV UTF-8; or run: iconv -f WINDOWS-1251 -t UTF-8 comments.csv",
        ),
        (b"\x1f\x8bnot gzip at all", "CorruptGzip", "compress it again"),
        (
            b"comment,toxic\na,b,1\n",
            "InvalidCsv",
            "row 1 of comments.csv has 3 fields where the header has 2; quote texts",
        ),
        (b'comment,toxic\nfine,0\n"open,1\n', "InvalidCsv", "row 2 of comments.csv is not valid CSV"),
        (b"comment,comment,toxic\na,b,1\n", "AmbiguousColumn", "rename one"),
    ],
)
def test_read_dataset_refuses_a_broken_file(tmp_path: Path, content: bytes, reason: str, remedy: str) -> None:
    error = refused(written(tmp_path, content))
    assert error.reason == reason
    assert str(error).startswith("dataset")
    assert remedy in str(error)


TEXTS = ["привет, мир; пока\tвсем | да", "две\nстроки", 'он сказал "да"', "1,0; 2", " с краю "]
ROWS = [Example(text, number % 2 == 1) for number, text in enumerate(TEXTS)]


def delimited(delimiter: str, columns: Sequence[str] = ("id", "comment", "toxic")) -> str:
    """ROWS as CSV, with other columns than the two beside them."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([n, row.text, int(row.toxic)] for n, row in enumerate(ROWS))
    return sink.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_read_dataset_finds_delimiter_and_encoding(tmp_path: Path, delimiter: str, encoding: str) -> None:
    assert read_dataset(written(tmp_path, delimited(delimiter).encode(encoding)), "comment", "toxic") == ROWS


@pytest.mark.parametrize("delimiter", [";", "~"])
def test_read_dataset_uses_the_delimiter_that_the_first_line_declares(tmp_path: Path, delimiter: str) -> None:
    path = written(tmp_path, f"sep={delimiter}\r\n{delimited(delimiter)}")
    assert read_dataset(path, "comment", "toxic") == ROWS


def test_delimiter_is_that_of_the_columns_and_not_of_the_texts(tmp_path: Path) -> None:
    """A column name may contain other delimiters, and an unquoted text may contain them more often."""
    path = written(tmp_path, "comment, as written, in full;toxic\nраз, два, три, четыре;1\n")
    assert read_dataset(path, "comment, as written, in full", "toxic") == [Example("раз, два, три, четыре", True)]
    error = refused(path)
    assert "which has 'comment, as written, in full', 'toxic'; set dataset.textColumn to one of them" in str(error)


def test_a_row_with_more_delimiters_than_columns_names_its_delimiter(tmp_path: Path) -> None:
    error = refused(written(tmp_path, "comment;toxic\nраз;1\nраз; два;0\n", "отзывы.csv"))
    assert "row 2 of отзывы.csv has 3 fields" in str(error) and "contain semicolons" in str(error)


def test_decimal_comma_of_a_label_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "comment;toxic\nраз;1,0\nдва;0,0\n")
    assert [row.toxic for row in read_dataset(path, "comment", "toxic")] == [True, False]


def test_column_names_are_compared_as_a_reader_sees_them(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "отзывы йоги")
    path = written(tmp_path, f"\u200b{decomposed} ,\ufeffметка\nраз,1\n")
    assert read_dataset(path, "отзывы йоги", "метка") == [Example("раз", True)]


RECORDS = [{"id": n, "comment": row.text, "toxic": row.toxic, "tags": []} for n, row in enumerate(ROWS)]


def json_lines(records: Sequence[object] = RECORDS) -> str:
    return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)


@pytest.mark.parametrize(
    "content",
    [
        json_lines().encode(),
        ("\ufeff\n" + json_lines().replace("\n", "\r\n\r\n")).encode(),
        gzip.compress(json_lines().encode()),
        json.dumps(RECORDS, indent=2).encode(),
    ],
    ids=["lines", "with blank lines", "gzip", "array"],
)
def test_read_dataset_reads_json_whatever_the_name(tmp_path: Path, content: bytes) -> None:
    assert read_dataset(written(tmp_path, content, "dataset.csv"), "comment", "toxic") == ROWS


@pytest.mark.parametrize("labels", ["bool", "int8", "float64", "string"])
def test_read_dataset_reads_parquet_whatever_the_name(tmp_path: Path, labels: str) -> None:
    path = tmp_path / "dataset.csv"
    columns = {"id": range(len(ROWS)), "comment": TEXTS, "toxic": [int(row.toxic) for row in ROWS]}
    frame = pandas.DataFrame(columns)
    frame.astype({"toxic": labels, "comment": "category"}).to_parquet(path)
    assert read_dataset(path, "comment", "toxic") == ROWS


@pytest.mark.parametrize(
    ("record", "reason", "message"),
    [
        ({"comment": "два"}, "InvalidLabel", "'None' in column 'toxic', row 2 of c.jsonl, is not a label"),
        ({"comment": "два", "toxic": "да"}, "InvalidLabel", "'да' in column 'toxic', row 2 of c.jsonl"),
        ({"comment": None, "toxic": 1}, "EmptyText", "of c.jsonl have no visible character, the first in row 2"),
        ({"comment": "\u200b\u0301", "toxic": 1}, "EmptyText", "the first in row 2; remove these rows"),
        ({"comment": 7, "toxic": 1}, "InvalidText", "row 2 of c.jsonl has in column 'comment' a int, not a text"),
        ({"comment": "\ud83d", "toxic": 1}, "InvalidText", "row 2 of c.jsonl has in column 'comment' half a character"),
        ([1], "InvalidJson", "row 2 of c.jsonl is not a JSON object; write one object per line"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_named(tmp_path: Path, record: object, reason: str, message: str) -> None:
    content = "".join(json.dumps(item) + "\n" for item in ({"comment": "раз", "toxic": 0}, record))
    if reason == "InvalidJson":
        content = content.replace("[1]", "7")
    error = refused(written(tmp_path, content, "c.jsonl"))
    assert error.reason == reason
    assert message in str(error)


def parquet(frame: pandas.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "reason", "remedy"),
    [
        (b"PK\x03\x04...", "UnsupportedFormat", "is a zip archive or an Excel workbook; provide a CSV, TSV,"),
        (b"\xd0\xcf\x11\xe0...", "UnsupportedFormat", "in Excel, save the sheet as CSV UTF-8"),
        (b"\x28\xb5\x2f\xfd...", "UnsupportedFormat", "comments.csv is compressed with zstd; provide a CSV"),
        (b'{"comment": "a", "toxic": 1}\n{"comment"', "InvalidJson", "row 2 of comments.csv is not valid JSON"),
        (b"PAR1 broken", "CorruptParquet", "comments.csv is a broken Parquet file"),
        ("comment,toxic\nтекст,1\n".encode("utf-16-le"), "WrongEncoding", "is UTF-16 without a byte order mark"),
        (b"\xff\xfea", "WrongEncoding", "save it as UTF-8"),
        ("comment,toxic\nтекст,1\n".encode("koi8-r"), "WrongEncoding", "save it as UTF-8"),
        (parquet(pandas.DataFrame({"comment": [b"abc"], "toxic": [1]})), "InvalidText", "a bytes, not a text"),
        (parquet(pandas.DataFrame({"comment": [], "toxic": []})), "NoRows", "add labelled comments"),
        (parquet(pandas.DataFrame({"text": ["a"], "toxic": [1]})), "MissingColumn", "which has 'text', 'toxic'"),
    ],
)  # fmt: skip
def test_read_dataset_names_what_it_cannot_read(tmp_path: Path, content: bytes, reason: str, remedy: str) -> None:
    error = refused(written(tmp_path, content))
    assert error.reason == reason
    assert "comments.csv" in str(error) and remedy in str(error)


def test_read_dataset_refuses_a_truncated_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"comment,toxic\n" + b"some text,1\n" * 100)
    assert refused(written(tmp_path, whole[:-12], "c.csv.gz")).reason == "CorruptGzip"


def test_read_dataset_refuses_a_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "absent.csv")
    assert error.reason == "FileUnreadable"
    assert "absent.csv" in str(error)


def test_read_dataset_refuses_one_column_for_both(tmp_path: Path) -> None:
    error = refused(written(tmp_path, "comment,toxic\nтекст,1\n"), "toxic", "toxic")
    assert error.reason == "SameColumn"
    assert "dataset.textColumn" in str(error)
    assert "dataset.labelColumn" in str(error)


CYRILLIC = st.characters(min_codepoint=0x410, max_codepoint=0x44F) | st.sampled_from("ёЁ ,!«»\n\t\u2028\x00😀")
long_texts = st.text(CYRILLIC, min_size=50, max_size=3000).map(lambda text: f"ы{text}")
CONTENTS = {
    "InvalidLabel": ("comment,toxic\n1,{0}\n", "comment", "toxic", "use 1 (toxic) or 0 (not toxic)"),
    "MissingColumn": ("{0},1\nтекст,0\n", "comment", "toxic", "set dataset.textColumn to one of them"),
    "AmbiguousColumn": ("{0},{0},toxic\nтекст,текст,0\n", "{0}", "toxic", "rename one"),
    "SameColumn": ("{0},toxic\nтекст,0\n", "{0}", "{0}", "name two columns"),
    "EmptyText": ("{0},toxic\n ,0\n", "{0}", "toxic", "remove these rows"),
}
"""By reason: the file, the configured columns, and the end of the message; {0} is a comment."""


def quoted(text: str) -> str:
    return f'"{text}"'


@pytest.mark.parametrize("reason", CONTENTS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=long_texts)
def test_a_comment_in_the_wrong_place_is_not_published_and_leaves_room_for_the_remedy(
    tmp_path: Path, reason: str, text: str
) -> None:
    content, text_column, label_column, remedy = CONTENTS[reason]
    path = written(tmp_path, content.format(quoted(text)))
    error = refused(path, text_column.format(text), label_column.format(text))
    assert error.reason == reason
    assert str(error).endswith(remedy)
    assert len(str(error)) < 300
    assert text[:60] not in str(error)


def test_a_header_of_many_columns_is_named_by_its_first(tmp_path: Path) -> None:
    header = [f"столбец {number}" for number in range(2000)]
    error = refused(written(tmp_path, ",".join(header) + "\n"))
    assert "'столбец 0', 'столбец 1'" in str(error) and "and 1992 more" in str(error)
    assert len(str(error)) < 600 and str(error).endswith("set dataset.textColumn to one of them")


@given(st.text())
def test_shown_value_is_itself_or_its_beginning(value: str) -> None:
    words = shown(value)
    assert len(words) <= SHOWN + 3
    assert words == repr(value) or words == f"{repr(value)[: len(words) - 2]}…{repr(value)[0]}"


def test_parquet_in_an_image_without_its_library_is_refused_with_what_to_provide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(parquet(pandas.DataFrame({"comment": ["a"], "toxic": [1]})))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        DatasetError, match=r"dataset: rows\.csv is a Parquet file, .* provide a CSV, TSV or JSON lines"
    ):
        read_dataset(path, "comment", "toxic")
