"""An API server for the chart's objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.operator.api_server import ApiServer, apply_crd, keda_stand_in, running_api_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A kube-apiserver with our CRD and KEDA's; each test has its own namespaces."""
    with running_api_server(tmp_path_factory.mktemp("server")) as found:
        apply_crd(found.connect(), keda_stand_in())
        yield found
