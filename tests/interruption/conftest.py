"""A kube-apiserver for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api_server import ApiServer, apply_crd, keda_stand_in, running_api_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that runs while these tests do, with KEDA's kind; each takes a namespace of its own."""
    with running_api_server(tmp_path_factory.mktemp("api-server")) as running:
        apply_crd(running.connect(), keda_stand_in())
        yield running
