"""Fixtures of the end-to-end tests: a cluster prepared as the demo prepares it, then one namespace per test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.e2e.loop import Finished, bring_to_ready
from support.e2e.nodes import two_nodes
from toxicity_api.base import PLURAL
from toxicity_cluster.demo_cluster import choose_cluster, prepare_cluster
from toxicity_cluster.demo_install import (
    OPERATOR_NAMESPACE,
    OPTIONAL_CHART_IMAGES,
    SAMPLE_DATASET,
    Installation,
    install_chart,
)
from toxicity_cluster.demo_kubectl import Kubectl, diagnostics
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers on the test, its module and the session that it failed, so that the namespace can tell why."""
    report = yield
    if report.failed:
        for node in (item, item.getparent(pytest.Module), item.session):
            if node is not None:
                node.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def cluster(machine: Settings) -> Installation:
    """A cluster with this checkout's images and its chart: KUBECONFIG's, else the embedded one."""
    progress = Progress()
    registry = os.environ.get("TOXICITY_REGISTRY") or None
    installation = prepare_cluster(
        choose_cluster(None, machine, registry, Path.home()),
        progress,
        progress.step,
        SAMPLE_DATASET.resolve(),
        registry,
        tuple(OPTIONAL_CHART_IMAGES),
    )
    install_chart(installation)
    return installation


@pytest.fixture
def namespace(cluster: Installation, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test alone, gone at its end; on failure it tells what happened in it."""
    with new_namespace(cluster.kubectl, request.node) as name:
        yield name


@pytest.fixture(scope="module")
def module_namespace(cluster: Installation, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this module alone."""
    with new_namespace(cluster.kubectl, request.node) as name:
        yield name


@pytest.fixture(scope="module")
def second_node(embedded: Settings, cluster: Installation) -> Iterator[Settings]:
    """The settings of the embedded cluster's second node, for the time of a module."""
    with two_nodes(embedded, cluster) as settings:
        yield settings


@pytest.fixture(scope="session")
def finished(cluster: Installation, request: pytest.FixtureRequest) -> Iterator[Finished]:
    """The one model that several modules share, in a namespace of its own: test_loop looks at it first."""
    with new_namespace(cluster.kubectl, request.session) as namespace:
        yield bring_to_ready(cluster, namespace)


@contextmanager
def new_namespace(kubectl: Kubectl, node: pytest.Item | pytest.Module | pytest.Session) -> Iterator[str]:
    """The resources go first, then the namespace, so that finalizers can run."""
    name = f"e2e-{secrets.token_hex(4)}"
    kubectl.ensure_namespace(name)
    try:
        yield name
    finally:
        if node.stash.get(FAILED, False):
            print(diagnostics(kubectl, name))
            print(diagnostics(kubectl, OPERATOR_NAMESPACE))
        kubectl.run("delete", PLURAL, "--all", "-n", name, "--wait", "--timeout=120s", timeout_seconds=150)
        kubectl.run("delete", "namespace", name, "--wait=false")
