"""What `toxicity-score` reads and writes, and what it says, against the real HTTP server."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from support.score.command import arguments, rows_of, text_of, write_csv
from support.serving.word_engine import CONFIG, TOXIC_WORD, UNANSWERED_WORD, UNKNOWN_CHARACTER, ready
from support.store.server import BUCKET, KEY, S3Server, write_secret
from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_score.__main__ import main, parse
from toxicity_score.parts import split_parts
from toxicity_score.rows import Columns, open_rows
from toxicity_serving.http.schemas import MAX_CHARACTERS

Score = Callable[..., str]


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Score:
    """Runs the command in `tmp_path`, checks its exit code and returns its log."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "toxicity_score")

    def run(code: int, *arguments: object, token: str = "") -> str:
        monkeypatch.setenv("API_TOKEN", token)
        caplog.clear()
        assert main([*map(str, arguments)]) == code, caplog.text
        return caplog.text

    return run


def test_sample_job_calls_the_command_as_it_is() -> None:
    [claim, job] = yaml.safe_load_all(Path("manifests/samples/score-job.yaml").read_text(encoding="utf-8"))
    [container] = job["spec"]["template"]["spec"]["containers"]
    options = parse(container["args"])
    assert container["command"] == ["toxicity-score"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(options.input).parent), str(Path(options.output).parent)} | {"/tmp"} == mounted
    assert claim["metadata"]["name"] in json.dumps(job["spec"]["template"]["spec"]["volumes"])
    [rule] = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [EXIT_INVALID_INPUT]


def test_rows_that_cannot_be_scored_say_why_and_the_others_are_scored(
    service: httpx.Client, score: Score, tmp_path: Path
) -> None:
    long = "а" * (MAX_CHARACTERS + 1)
    texts = ["да", "", "\u200b", long, UNANSWERED_WORD, "нет", UNKNOWN_CHARACTER, TOXIC_WORD]
    lines = [json.dumps({"key": number, "comment": text}) for number, text in enumerate(texts)]
    lines += ['{"key": 8, "comment": 5}', '{"key": 9}', "{", '{"key": 11, "comment": "\\ud800"}']
    source = tmp_path / "comments.jsonl.gz"
    source.write_bytes(gzip.compress("\n".join(lines).encode()))
    said = score(0, *arguments(service, source))
    [part] = (tmp_path / "out").glob("part-*.jsonl")
    rows = [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in rows] == [0, None, None, None, None, 0, None, 1, *[None] * 4]
    errors = [row["error"] for row in rows]
    for words, error in zip(
        ["", "no visible", "no visible", "20001 characters, more than 20000", "500: the model returned no probability",
         "", "422: body: text 0 has token", "", "is a int", "missing", "not a JSON object", "half a character"],
        errors, strict=True,
    ):  # fmt: skip
        assert (words in error) if words else error == ""
    assert [row["id"] for row in rows] == [*map(str, range(10)), "11", "11"]
    assert "scored=3 toxic=1 errors=9" in said
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["errors"] == 9


def test_parquet_keeps_its_format(service: httpx.Client, score: Score, tmp_path: Path) -> None:
    source = tmp_path / "comments.parquet"
    texts = [text_of(number) for number in range(250)]
    parquet.write_table(pa.table({"comment": texts, "key": list(range(250))}), source, row_group_size=100)
    score(0, *arguments(service, source, "--threshold", "0.9"))
    table = parquet.read_table(tmp_path / "out" / "part-000000.parquet").to_pydict()
    assert table["text"] == texts
    assert table["id"] == [str(number) for number in range(250)]
    assert set(table["label"]) == {0}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--text-column", "txt"), "--text-column: no column 'txt' in comments.csv, which has 'key', 'comment'"),
        (("--input", "absent.csv"), "--input: cannot read absent.csv: No such file"),
        (("--input", "zip.csv"), "--input: zip.csv is not UTF-8"),
        (
            ("--service", "ru-toxicity-serve"),
            "--service: ru-toxicity-serve has no scheme; use http://ru-toxicity-serve",
        ),
        (("--output", "comments.csv"), "--output: cannot create comments.csv: File exists"),
    ],
)
def test_wrong_arguments_are_named(
    service: httpx.Client, score: Score, tmp_path: Path, more: tuple[str, str], words: str
) -> None:
    write_csv(tmp_path / "comments.csv", 3)
    (tmp_path / "zip.csv").write_bytes("key,comment\n1,привет\n".encode("cp1251"))
    assert words in score(42, *arguments(service, "comments.csv", *more))


def test_service_of_something_else_is_named(service: httpx.Client, score: Score, tmp_path: Path) -> None:
    write_csv(tmp_path / "comments.csv", 3)
    said = score(42, *arguments(service, "comments.csv", "--service", f"{service.base_url}/nothing"))
    assert "/nothing answers 404; set it to status.url of the ToxicityModel" in said


def test_another_run_is_not_mixed_with_the_parts_of_the_first(
    service: httpx.Client, score: Score, tmp_path: Path
) -> None:
    write_csv(tmp_path / "comments.csv", 3)
    score(0, *arguments(service, "comments.csv"))
    said = score(42, *arguments(service, "comments.csv", "--threshold", "0.7"))
    assert "--output: it has parts of another run (threshold was 0.5 and is 0.7)" in said
    (tmp_path / "comments.csv").write_text("key,comment\nk0,привет\n", encoding="utf-8")
    assert "inputSha256 was" in score(42, *arguments(service, "comments.csv"))
    assert len(rows_of(tmp_path / "out")) == 3


def test_wrong_token_is_refused_and_the_right_one_accepted(score: Score, tmp_path: Path) -> None:
    write_csv(tmp_path / "comments.csv", 3)
    with ready(token="geheim") as service:
        assert "API_TOKEN:" in score(42, *arguments(service, "comments.csv"), token="falsch")
        score(0, *arguments(service, "comments.csv"), token="geheim")
    assert len(rows_of(tmp_path / "out")) == 3


def test_service_that_is_away_ends_the_run_after_the_patience(score: Score, tmp_path: Path) -> None:
    write_csv(tmp_path / "comments.csv", 3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    given = ["--input", "comments.csv", "--output", "out", "--service", f"http://127.0.0.1:{port}"]
    said = score(1, *given, "--patience", "0.2")
    assert "has given no answer" in said and "ConnectError" in said


def test_busy_service_gets_all_rows_once(score: Score, tmp_path: Path) -> None:
    """Two prompts run and one waits, so a batch is accepted only by an idle service."""
    source = write_csv(tmp_path / "comments.csv", 1000)
    with ready(config=CONFIG.model_copy(update={"max_num_seqs": 2, "queue_limit": 1})) as service:
        score(0, *arguments(service, source, "--rows-per-part", 300))
        refused = sum(
            float(line.split()[1])
            for line in service.get("/metrics").text.splitlines()
            if line.startswith('toxicity_requests_total{outcome="overloaded"}')
        )
    assert refused > 0
    found = rows_of(tmp_path / "out")
    assert [(row["id"], row["text"]) for row in found] == [(f"k{n}", text_of(n)) for n in range(1000)]
    assert not [row for row in found if row["error"] or not row["score"]]


def test_input_can_be_a_url(service: httpx.Client, score: Score, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    write_csv(tmp_path / "served" / "comments.csv", 5)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            score(0, *arguments(service, f"{url}/comments.csv?signature=secret"))
            said = score(42, *arguments(service, f"{url}/absent.csv?signature=secret"))
        finally:
            server.shutdown()
    assert len(rows_of(tmp_path / "out")) == 5
    assert f"--input: {url.rpartition(':')[0]}" in said and "answers 404" in said and "secret" not in said


def test_input_and_output_can_be_in_an_object_store(
    service: httpx.Client, score: Score, tmp_path: Path, server: S3Server, secrets: Path
) -> None:
    write_csv(server.bucket / "comments.csv", 50)
    store = ("--endpoint", server.endpoint, "--region", "us-east-1", "--object-store-secrets", secrets)
    given = arguments(service, f"s3://{BUCKET}/comments.csv", "--output", f"s3://{BUCKET}/scores/may", *store)
    score(0, *given, "--rows-per-part", 20)
    folder = server.bucket / "scores" / "may"
    assert [row["id"] for row in rows_of(folder)] == [f"k{n}" for n in range(50)]
    (folder / "part-000001.csv").unlink()
    assert "skipped=30" in score(0, *given, "--rows-per-part", 20)
    assert [row["text"] for row in rows_of(folder)] == [text_of(n) for n in range(50)]
    wrong = write_secret(tmp_path / "wrong", AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY="wrong")
    said = score(42, *given, "--object-store-secrets", wrong)
    assert "--input: s3://models does not allow to read comments.csv" in said
    assert "correct the credentials in the mounted Secret" in said
    absent = arguments(service, "s3://nowhere/comments.csv", *store)
    assert "--input: s3://nowhere/comments.csv does not exist" in score(42, *absent)


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """30 MB are read with less than 12 MB."""
    source = tmp_path / "large.csv"
    source.write_text("text\n" + ("слово " * 800 + "\n") * 3_000, encoding="utf-8")
    assert source.stat().st_size > 25_000_000
    tracemalloc.start()
    try:
        with open_rows(source, source.name, Columns("text")) as (_, rows):
            count = sum(len(part.rows) for part in split_parts(rows, 100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 3_000
    assert peak < 12_000_000
