"""What the chart's tests share: helm, and the chart rendered by it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial

import pytest

from api_server import ApiServer, apply_crd, keda_stand_in, running_api_server
from rendering import EVERYTHING, Documents, Render, render_chart
from toxicity_cluster.build import build_programs
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings


@pytest.fixture(scope="session")
def helm() -> str:
    """helm from the PATH, else the one that the embedded cluster uses."""
    return shutil.which("helm") or str(build_programs(Settings.from_environment(), Progress())["helm"])


@pytest.fixture(scope="session")
def render(helm: str) -> Render:
    """render(*arguments): the objects of `helm template` with these further arguments."""
    return partial(render_chart, helm)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real API server with the CRD and KEDA's; tests with it are marked `api`, each has its own namespaces."""
    with running_api_server(tmp_path_factory.mktemp("server")) as found:
        apply_crd(found.connect(), keda_stand_in())
        yield found


@pytest.fixture
def defaults(render: Render) -> Documents:
    """The objects with the chart's own values."""
    return render()


@pytest.fixture
def everything(render: Render) -> Documents:
    """The objects with every knob turned."""
    return render("-f", str(EVERYTHING))
