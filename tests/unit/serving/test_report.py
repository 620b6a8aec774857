"""Test that a volume that hangs, fails or contains invalid files affects only the report."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.types import Receive, Scope, Send

from support.serving.stage_folders import stage_folders
from support.serving.word_engine import WordEngine, ready
from toxicity_api.stage_config import ServingConfig
from toxicity_serving import report
from toxicity_serving.http import page
from toxicity_serving.http.app import ENVELOPES, create_app
from toxicity_serving.lifecycle import State

READERS = ["/v1/report", "/v1/plots/eda-labels"]
"""The paths that read the volume."""
POSTS: dict[str, dict[str, Any]] = {
    "/v1/classify": {"text": "а"},
    "/v1/moderations": {"input": "а"},
    "/v1alpha1/comments:analyze": {"comment": {"text": "а"}, "requestedAttributes": {"TOXICITY": {}}},
    "/v1alpha1/comments:suggestscore": {"comment": {"text": "а"}, "attributeScores": {"TOXICITY": {}}},
}
ENOUGH = 10.0
"""Timeout in seconds. Only failing tests wait that long."""
EVALUATION = Path("quantize-q1/evaluation/evaluation.json")


class Counted:
    """The application in this event loop; `arrived` counts the requests."""

    def __init__(self, config: ServingConfig) -> None:
        self.app = create_app(config, WordEngine())
        self.arrived = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrived += 1
        await self.app(scope, receive, send)


@contextlib.asynccontextmanager
async def asked(app: Counted) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the ready application. A request without a response in time fails."""
    async with (
        app.app.router.lifespan_context(app.app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        await until(lambda: app.app.state.service.state is State.READY)
        yield client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(ENOUGH):
        while not condition():
            await asyncio.sleep(0.001)


class Hanging:
    """A volume whose reads block until `recovered` is set; `waiting` is set when a read blocks."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting, self.recovered = threading.Event(), threading.Event()
        is_file = Path.is_file

        def hang(path: Path) -> bool:
            if path.is_relative_to(root):
                self.waiting.set()
                self.recovered.wait()
            return is_file(path)

        monkeypatch.setattr(Path, "is_file", hang)


@pytest.fixture
def config(tmp_path: Path) -> ServingConfig:
    return stage_folders(tmp_path)


@pytest.fixture
def hanging(config: ServingConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    volume = Hanging(config.artifacts, monkeypatch)
    yield volume
    volume.recovered.set()


@pytest.mark.parametrize("path", READERS)
def test_probes_and_scores_are_answered_while_all_reads_of_the_volume_hang(
    config: ServingConfig, hanging: Hanging, path: str
) -> None:
    async def ask() -> None:
        app = Counted(config)
        async with asked(app) as client:
            crowd = int(anyio.to_thread.current_default_thread_limiter().total_tokens) + 5
            readers = [asyncio.create_task(client.get(path)) for _ in range(crowd)]
            try:
                await until(lambda: app.arrived == crowd and hanging.waiting.is_set())
                async with asyncio.timeout(ENOUGH / 2):
                    probes = [await client.get(probe) for probe in ("/healthz", "/readyz", "/metrics")]
                    scores = [await client.post(path, json=body) for path, body in POSTS.items()]
                assert [answer.status_code for answer in probes + scores] == [200] * 7
                assert not any(reader.done() for reader in readers)
            finally:
                hanging.recovered.set()
                answers = await asyncio.gather(*readers)
            assert {answer.status_code for answer in answers} == {200}

    asyncio.run(ask())


def test_no_route_needs_a_shared_thread(config: ServingConfig) -> None:
    """All shared threads are busy here. A route, dependency or response that needs one would never finish."""
    assert set(POSTS) == set(ENVELOPES)

    async def ask() -> None:
        app = Counted(config)
        async with asked(app) as client:
            threads = anyio.to_thread.current_default_thread_limiter()
            for taker in range(int(threads.total_tokens)):
                await threads.acquire_on_behalf_of(taker)
            described = app.app.openapi()["paths"]
            gets = [path.format(plot="eda-labels") for path, methods in described.items() if "get" in methods]
            assert set(READERS) < set(gets)
            async with asyncio.timeout(ENOUGH):
                answers = [await client.get(path) for path in (*gets, "/", "/docs", "/openapi.json")]
                answers += [await client.post(path, json=body) for path, body in POSTS.items()]
            assert {str(answer.url): answer.status_code for answer in answers if not answer.is_success} == {}

    asyncio.run(ask())


@pytest.mark.parametrize("path", READERS)
def test_hanging_volume_is_503_in_time_and_read_again_after_recovery(
    config: ServingConfig, hanging: Hanging, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ready(config=config) as client:
        monkeypatch.setattr(page, "VOLUME_SECONDS", 0.05)
        for _ in range(10):  # more requests than threads: those that wait for a thread time out as well
            answer = client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json() == {"message": "the artifact volume does not answer", "errors": []}
        monkeypatch.setattr(page, "VOLUME_SECONDS", ENOUGH)
        hanging.recovered.set()
        assert client.get(path).status_code == 200


def directory(path: Path) -> None:
    path.mkdir()


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def endless_link(path: Path) -> None:
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def not_utf8(path: Path) -> None:
    path.write_bytes('{"buckets": [], "stage": "т"}'.encode("cp1251"))


def half_a_document(path: Path) -> None:
    path.write_text('{"buckets": [')


def deep_document(path: Path) -> None:
    path.write_text('{"buckets": ' + "[" * 100_000 + "]" * 100_000 + "}")


def surrogate(path: Path) -> None:
    path.write_text('{"buckets": [{"name": "\\ud800", "rows": 1, "toxic": 1}], "runId": "\\ud800"}')


def huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, report.MAX_FILE_BYTES + 1)


SPOILERS = [
    directory,
    broken_link,
    endless_link,
    pipe,
    not_utf8,
    half_a_document,
    deep_document,
    surrogate,
    huge_file,
]
SHOWN_BY: dict[Path, Callable[[dict[str, Any]], bool]] = {
    EVALUATION: lambda told: [bucket["f1"] for bucket in told["quality"]] == [0.893],
    Path("train-t1/result.json"): lambda told: told["data"] is not None and told["train_samples"] is not None,
    Path("loadtest-l2/status.json"): lambda told: told["load_test"] is not None,
    Path("train-t1/eda/labels.png"): lambda told: "eda-labels" in [plot["id"] for plot in told["plots"]],
}
"""Files of the volume, with a check whether a report includes their content."""


def shown(config: ServingConfig) -> dict[Path, bool]:
    """Return the files that the report includes."""
    told = json.loads(report.read_report(config).model_dump_json(by_alias=True))
    return {name: shows(told) for name, shows in SHOWN_BY.items()}


@pytest.mark.parametrize("spoil", SPOILERS)
@pytest.mark.parametrize("name", [name for name in SHOWN_BY if name.suffix == ".json"], ids=str)
def test_unreadable_files_are_left_out_and_the_others_reported(
    config: ServingConfig, name: Path, spoil: Callable[[Path], None]
) -> None:
    (config.artifacts / name).unlink()
    spoil(config.artifacts / name)
    assert shown(config) == {other: other != name for other in SHOWN_BY}


@pytest.mark.parametrize("spoil", [directory, broken_link, endless_link, pipe, huge_file])
def test_plot_that_cannot_be_read_is_not_found(config: ServingConfig, spoil: Callable[[Path], None]) -> None:
    plot = config.artifacts / "train-t1" / "eda" / "labels.png"
    plot.unlink()
    spoil(plot)
    with ready(config=config) as client:
        assert client.get("/v1/report").status_code == 200
        assert client.get("/v1/plots/eda-labels").status_code == 404


@pytest.mark.parametrize("operation", ["stat", "open"])
@pytest.mark.parametrize("name", SHOWN_BY, ids=str)
def test_files_with_io_errors_are_left_out(
    config: ServingConfig,
    name: Path,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every operation on the file fails with an error of NFS that a local disk does not have."""
    caplog.set_level(logging.WARNING, report.__name__)
    works = getattr(Path, operation)

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == config.artifacts / name:
            raise OSError(errno.EIO, "Input/output error")
        return works(path, *arguments, **options)

    monkeypatch.setattr(Path, operation, fail)
    if name.suffix == ".png":
        assert report.read_plot(config, "eda-labels") is None
    if name.suffix == ".json" or operation == "stat":  # plots are listed without being opened
        assert shown(config) == {other: other != name for other in SHOWN_BY}
    assert f"path={config.artifacts / name} error=OSError" in caplog.text


def test_load_test_removed_during_the_read_is_left_out(
    config: ServingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, gone = Path.stat, config.artifacts / "loadtest-l3"
    gone.mkdir()
    asks = 0

    def vanishing(path: Path, **options: Any) -> os.stat_result:
        nonlocal asks
        if path == gone:
            asks += 1
            if asks > 1:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", vanishing)
    assert all(shown(config).values())
