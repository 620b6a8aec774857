"""What tests of every kind share: which cluster they talk to, and the one way to wait for something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.settings import Settings


@pytest.fixture
def wait_for() -> Callable[..., object]:
    """wait_for(what, condition, deadline_seconds): the first true value that the condition returns."""
    return wait_until


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """KUBECONFIG, else that of the embedded cluster. A test that asks for a cluster fails without one."""
    settings = Settings.from_environment()
    if not settings.kubeconfig.is_file():
        pytest.fail(f"{settings.kubeconfig} is missing: run `make up`, or set KUBECONFIG to a cluster's file")
    return settings.kubeconfig
