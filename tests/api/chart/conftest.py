"""An API server for the chart's objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.operator.api_server import (
    ApiServer,
    apply_crd,
    http_route_stand_in,
    keda_stand_in,
    running_api_server,
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A kube-apiserver with our CRD, KEDA's and the Gateway API's; each test has its own namespaces."""
    with running_api_server(tmp_path_factory.mktemp("server")) as found:
        for crd in (keda_stand_in(), http_route_stand_in()):
            apply_crd(found.connect(), crd)
        yield found
