"""What the tests of this folder share: a kube-apiserver, and silence."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from support.operator.api_server import (
    ApiServer,
    apply_crd,
    http_route_stand_in,
    keda_stand_in,
    running_api_server,
)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """No log of the operator: thousands of schedules fill it with what goes wrong on purpose."""
    logger = logging.getLogger("toxicity_operator")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server with the kinds of KEDA and the Gateway API. Each test takes a namespace of its own."""
    with running_api_server(tmp_path_factory.mktemp("api-server")) as running:
        for crd in (keda_stand_in(), http_route_stand_in()):
            apply_crd(running.connect(), crd)
        yield running
