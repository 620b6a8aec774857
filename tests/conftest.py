"""Fixtures for tests of every kind: which cluster they may use, helm, and the one way to wait for something."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support.chart import Render, render_chart
from toxicity_cluster.build import build_programs
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

OPT_IN = "--on-given-cluster"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        OPT_IN, action="store_true", help="let tests create and delete objects in the cluster of KUBECONFIG"
    )


@pytest.fixture
def wait_for() -> Callable[..., object]:
    """wait_for(what, condition, deadline_seconds): the first true value that the condition returns."""
    return wait_until


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Settings:
    """The settings of this machine. The cluster of KUBECONFIG is used only with --on-given-cluster."""
    settings = Settings.from_environment()
    if settings.given_kubeconfig and not request.config.getoption(OPT_IN):
        pytest.fail(
            f"KUBECONFIG={settings.given_kubeconfig} names a cluster that these tests would change: "
            f"unset it to use the embedded cluster, or pass {OPT_IN}"
        )
    return settings


@pytest.fixture(scope="session")
def embedded(machine: Settings) -> Settings:
    """The settings of this machine, for a test that changes what the whole cluster shares: the CRD, a node, KEDA."""
    if machine.given_kubeconfig:
        pytest.fail(
            "this test changes the node, the CRD or KEDA: unset KUBECONFIG to run it on the embedded cluster"
        )
    return machine


@pytest.fixture(scope="session")
def kubeconfig(machine: Settings) -> Path:
    """The kubeconfig of the cluster under test. A test that needs a cluster fails without one."""
    if not machine.kubeconfig.is_file():
        pytest.fail(f"{machine.kubeconfig} does not exist: run `make up`, or set KUBECONFIG and pass {OPT_IN}")
    return machine.kubeconfig


@pytest.fixture(scope="session")
def helm() -> str:
    """The path of helm: from the PATH, else the one of the embedded cluster."""
    return shutil.which("helm") or str(build_programs(Settings.from_environment(), Progress())["helm"])


@pytest.fixture(scope="session")
def render(helm: str) -> Render:
    """render(*arguments): the objects of `helm template` with these further arguments."""
    return partial(render_chart, helm)
