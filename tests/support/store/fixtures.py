"""Fixtures: a real S3 server on loopback, the mounted Secret of a pod, and the store that they give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.store.server import KEY, SECRET, S3Server, open_store, running, write_secret
from toxicity_cluster.build import build_program
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_store.artifacts import BucketStore


@pytest.fixture(scope="session")
def versitygw() -> Path:
    """The program of the S3 server, built if it is missing."""
    return build_program(Settings.from_environment(), Progress(), "versitygw")


@pytest.fixture
def server(versitygw: Path, tmp_path: Path) -> Iterator[S3Server]:
    """A running server with an empty bucket."""
    with running(S3Server(versitygw, tmp_path / "server")) as started:
        yield started


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The mounted Secret with valid credentials."""
    return write_secret(tmp_path / "secrets", AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)


@pytest.fixture
def store(server: S3Server, secrets: Path) -> BucketStore:
    return open_store(server.endpoint, secrets)
