"""The API token is sent to the service only: no status, result document or log contains it, even after a failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.loadtest.service import Ended, Run, Service, free_port, running_service
from toxicity_api.spec import LoadTestSpec

LEAKED = "hunter"
BROKEN = """
import sys
import toxicity_loadtest.user_pool, toxicity_loadtest.distributed, toxicity_loadtest.measurement

def broken(*arguments, **named):
    try:
        raise KeyError("Authorization: Bearer hunter1")
    except KeyError as error:
        raise ValueError("invalid value 'Bearer hunter2'") from error

{place} = broken
from toxicity_loadtest.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


def a_spec(workers: int = 1) -> LoadTestSpec:
    return LoadTestSpec.model_validate(
        {
            "users": 2,
            "requestedRps": 20,
            "bucketStep": 50,
            "maxLength": 50,
            "secondsPerBucket": 1,
            "warmupSeconds": 0,
            "workers": workers,
        }
    )


def everything(ended: Ended) -> str:
    """Return all output of the process: statuses, result document and log."""
    return "\n".join([json.dumps([ended.statuses, ended.result], ensure_ascii=False), ended.log])


@pytest.mark.parametrize("token", ["s3cret\n", " s3cret ", "\ts3cret\r\n", "s3cret"])
def test_token_is_sent_as_the_service_understands_it(tmp_path: Path, service: Service, token: str) -> None:
    ended = Run(tmp_path, service.url, a_spec(), token=token).wait()
    assert ended.exit_code == 0, ended.log
    assert service.tokens == {"Bearer s3cret"}
    assert "s3cret" not in everything(ended)


def test_workers_send_the_token_as_the_service_understands_it(tmp_path: Path, service: Service) -> None:
    port, spec = free_port(), a_spec(workers=2)
    runs = [Run(tmp_path, service.url, spec, index=index, port=port, token="s3cret\n") for index in range(3)]
    for ended in [run.wait() for run in runs]:
        assert ended.exit_code == 0, ended.log
        assert "s3cret" not in everything(ended)
    assert service.tokens == {"Bearer s3cret"}


def test_service_without_a_token_is_asked_without_one(tmp_path: Path, service: Service) -> None:
    assert Run(tmp_path, service.url, a_spec()).wait().exit_code == 0
    assert service.tokens == {""}


@pytest.mark.parametrize("index", [0, 1], ids=["leader", "worker"])
@pytest.mark.parametrize("token", ["hunter1\nhunter2", "ключhunter", "hunteré", "hunter\x7f", "", " \n"])
def test_token_that_no_header_can_bear_is_refused_by_the_name_of_its_key(
    tmp_path: Path, service: Service, token: str, index: int
) -> None:
    spec = a_spec(workers=1 + index)
    ended = Run(tmp_path, service.url, spec, index=index, port=free_port(), token=token).wait()
    assert (ended.exit_code, ended.result["reason"]) == (42, "InvalidConfig"), ended.log
    published = [] if index else [ended.status["message"]]
    for words in [*published, ended.result["message"]]:
        assert "key token of the Secret of serving.apiTokenSecretName" in words
    assert [status["state"] for status in ended.statuses] == ([] if index else ["Failed"])
    assert [part for part in (LEAKED, "ключ") if part in everything(ended)] == []
    assert service.texts == []


@pytest.mark.parametrize(
    ("place", "index"),
    [
        ("toxicity_loadtest.user_pool.PacedUser.send", 0),
        ("toxicity_loadtest.user_pool.RequestFeed.get", 0),
        ("toxicity_loadtest.measurement.WindowRunner.measure", 0),
        ("toxicity_loadtest.distributed.Worker.run", 1),
    ],
)
def test_crash_is_told_by_its_kind_and_never_in_its_words(
    tmp_path: Path, service: Service, place: str, index: int
) -> None:
    program = ["-c", BROKEN.format(place=place)]
    spec = a_spec(workers=1 + index)
    port = free_port()
    leader = [Run(tmp_path, service.url, spec, index=0, port=port)] if index else []
    ended = Run(tmp_path, service.url, spec, index=index, port=port, token="hunter2", program=program).wait()
    for run in leader:
        run.process.kill()
        run.process.communicate()
    assert ended.exit_code == 1
    for words in [ended.result["message"], *([] if index else [ended.status["message"]])]:
        assert "ValueError" in words
    assert "in broken" in ended.log, "the log says where"
    assert LEAKED not in everything(ended)


def test_crash_of_a_worker_reaches_the_status_by_its_kind(tmp_path: Path, service: Service) -> None:
    program = ["-c", BROKEN.format(place="toxicity_loadtest.user_pool.PacedUser.send")]
    port, spec = free_port(), a_spec(workers=2)
    runs = [
        Run(tmp_path, service.url, spec, index=index, port=port, token="hunter2", program=program)
        for index in range(3)
    ]
    master, *workers = [run.wait() for run in runs]
    assert (master.status["state"], master.result["reason"]) == ("Failed", "GeneratorCrashed")
    assert master.status["message"] == "a user crashed: ValueError: see the traceback in the pod's log"
    assert any("in broken" in worker.log for worker in workers)
    assert [ended for ended in (master, *workers) if LEAKED in everything(ended)] == []
