"""An embedded cluster that has no image of this project and pulls from a registry with TLS and a login."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.registry import Registry, running_registry
from toxicity_cluster.build import build_programs
from toxicity_cluster.demo_kubectl import Kubectl
from toxicity_cluster.kubectl import program
from toxicity_cluster.lifecycle import down, up
from toxicity_cluster.packages import GIB, free_bytes
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import HOST_ADDRESS, Settings

NEEDED_GIB = 16
"""For the images in the registry, and packed and unpacked in the node."""


@dataclass(frozen=True)
class PrivateCluster:
    """The cluster, the registry, and the home folder of a user who has a login to the registry."""

    settings: Settings
    registry: Registry
    home: Path

    @property
    def prefix(self) -> str:
        """The value of REGISTRY."""
        return f"{self.registry.host}/team"

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(program("kubectl", self.settings), self.settings.kubeconfig)

    @property
    def node_ca(self) -> Path:
        """The CA that the node trusts for the registry."""
        return self.settings.registries / self.registry.host / "ca.crt"

    def let_the_node_trust(self) -> None:
        self.node_ca.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.registry.folder / "ca.crt", self.node_ca)


@pytest.fixture(scope="module")
def private(embedded: Settings) -> Iterator[PrivateCluster]:
    """The running cluster. It shares the built programs with the embedded cluster, and no image."""
    progress = Progress()
    # in the cache, since the images need gigabytes and containerd's snapshots no overlay below them
    folder = embedded.cache / "test-registry"
    settings = replace(embedded, cache=folder / "cache", state=folder / "state")
    _make_way(embedded, settings, progress)
    build_programs(embedded, progress)
    settings.cache.mkdir(parents=True)
    for name in ("bin", "cluster.lock"):
        (settings.cache / name).symlink_to(embedded.cache / name)
    try:
        up(settings, progress)
        (folder / "registry").mkdir()
        with running_registry(folder / "registry", HOST_ADDRESS) as registry:
            made = PrivateCluster(settings, registry, folder / "home")
            made.let_the_node_trust()
            registry.trust_by(made.home)
            registry.log_in(made.home / ".docker" / "config.json")
            yield made
    finally:
        down(settings, progress)
        shutil.rmtree(folder)


def _make_way(embedded: Settings, settings: Settings, progress: Progress) -> None:
    """Remove what a killed run has left, and check that the machine has no other cluster and enough space."""
    if embedded.marker.exists():
        pytest.fail(
            f"there is a cluster under {embedded.state}, and only one can run: remove it with `make down`; its images"
            " stay in the cache"
        )
    if settings.marker.exists():
        down(settings, progress)
    if settings.cache.parent.exists():
        shutil.rmtree(settings.cache.parent)
    free = free_bytes(embedded.cache) / GIB
    if free < NEEDED_GIB:
        pytest.fail(f"only {free:.1f} GiB are free under {embedded.cache}, and {NEEDED_GIB} GiB are needed")
