"""The folders and addresses of the embedded cluster, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

PROJECT = "toxicity-model"
NODE_NAME = "toxicity-node"
NETWORK_NAMESPACE = "toxicity"
CGROUP = "toxicity"
HOST_INTERFACE = "toxicity0"
CLUSTER_DOMAIN = "cluster.local"

# 198.18.0.0/15 is reserved for benchmarks (RFC 2544): no real network uses it.
HOST_ADDRESS = "198.18.0.1"
NODE_ADDRESS = "198.18.0.2"
LINK_PREFIX = 30
POD_CIDR = "198.18.64.0/18"
SERVICE_CIDR = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_ADDRESS = "198.19.0.10"
API_URL = f"https://{NODE_ADDRESS}:6443"

SECOND_GATEWAY = "198.18.0.5"
"""The first node's end of the link to the second one."""
SECOND_ADDRESS = "198.18.0.6"
SECOND_LINK = "198.18.0.4/30"
SECOND_POD_CIDR = "198.18.128.0/18"


@dataclass(frozen=True)
class Node:
    """A node of the cluster: a network namespace with a containerd, a kubelet and a kube-proxy.

    `suffix` distinguishes its namespace, cgroup, certificates and folders from those of the first node.
    """

    suffix: str
    address: str
    pod_cidr: str

    @property
    def name(self) -> str:
        return f"{NODE_NAME}{self.suffix}"

    @property
    def namespace(self) -> str:
        return f"{NETWORK_NAMESPACE}{self.suffix}"

    @property
    def cgroup(self) -> str:
        return f"{CGROUP}{self.suffix}"


FIRST_NODE = Node("", NODE_ADDRESS, POD_CIDR)
SECOND_NODE = Node("-2", SECOND_ADDRESS, SECOND_POD_CIDR)
NODES = (FIRST_NODE, SECOND_NODE)


def default_folders(environment: Mapping[str, str], effective_uid: int) -> tuple[Path, Path]:
    """The cache and the state folder: of the system for root, else below the user's home (XDG base directories).

    The Makefile repeats this rule, because it needs the cache before Python is installed.
    """
    if effective_uid == 0:
        return Path("/var/cache") / PROJECT, Path("/var/lib") / PROJECT
    home = Path(environment.get("HOME") or Path.home())
    given = (environment.get("XDG_CACHE_HOME", ""), environment.get("XDG_STATE_HOME", ""))
    defaults = (home / ".cache", home / ".local" / "state")
    # The XDG specification demands that a relative path is ignored.
    cache, state = (
        Path(path) if path.startswith("/") else default for path, default in zip(given, defaults, strict=True)
    )
    return cache / PROJECT, state / PROJECT


@dataclass(frozen=True)
class Settings:
    """`down` removes `state` and keeps `cache`; `sources` has the Go modules and packages.txt.

    `given_kubeconfig` is that of another cluster (KUBECONFIG), which replaces the embedded one. The state folder of the
    second node is inside that of the cluster, and has its processes, logs and volumes.
    """

    cache: Path
    state: Path
    sources: Path
    given_kubeconfig: Path | None = None
    node: Node = FIRST_NODE

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, effective_uid: int | None = None
    ) -> Settings:
        """Read TOXICITY_CACHE, TOXICITY_STATE and KUBECONFIG (one file; that of the embedded cluster is ignored)."""
        env = os.environ if environment is None else environment
        default_cache, default_state = default_folders(
            env, os.geteuid() if effective_uid is None else effective_uid
        )
        state = Path(env.get("TOXICITY_STATE") or default_state).absolute()
        given = Path(env["KUBECONFIG"]).absolute() if env.get("KUBECONFIG") else None
        return cls(
            cache=Path(env.get("TOXICITY_CACHE") or default_cache).absolute(),
            state=state,
            sources=Path(__file__).resolve().parents[2],
            given_kubeconfig=None if given == state / "kubeconfig" else given,
        )

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig of the embedded cluster, or that of KUBECONFIG."""
        return self.given_kubeconfig or self.cluster_state / "kubeconfig"

    @property
    def cluster_state(self) -> Path:
        """The state folder of the whole cluster."""
        return self.state if self.node == FIRST_NODE else self.state.parent

    @property
    def second_node(self) -> Settings:
        """The settings of the second node. Those of the first node are the cluster's."""
        return replace(self, state=self.cluster_state / "node-2", node=SECOND_NODE)

    @property
    def nodes(self) -> list[Settings]:
        """The settings of each node that the cluster has, the first one first."""
        return [self, self.second_node] if self.second_node.state.exists() else [self]

    @property
    def netns(self) -> Path:
        return Path("/run/netns") / self.node.namespace

    @property
    def containers(self) -> Path:
        """buildah's --root."""
        return self.cache / "containers"

    @property
    def containerd_root(self) -> Path:
        """containerd's content store and snapshots, in the cache: loaded images survive `down`."""
        return self.cache / f"containerd{self.node.suffix}"

    @property
    def containerd_roots(self) -> list[Path]:
        """The containerd_root of every node."""
        return [replace(self, node=node).containerd_root for node in NODES]

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd" / "containerd.sock"

    @property
    def pki(self) -> Path:
        return self.cluster_state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def registries(self) -> Path:
        """The CA certificates of registries, in `HOST:PORT/ca.crt`; containerd reads them at each pull."""
        return self.config / "certs.d"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def marker(self) -> Path:
        """Exists only in a folder that this program created and so may remove."""
        return self.state / ".toxicity-cluster"
