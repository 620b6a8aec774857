"""The cgroup of each node's pods: created before the kubelet starts, killed and removed after it stops."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from toxicity_cluster.errors import ClusterError
from toxicity_cluster.processes import kill_all
from toxicity_cluster.settings import NODES, Node

REMOVAL_SECONDS = 20.0
POLL_SECONDS = 0.1


def ensure_cgroups(node: Node) -> None:
    """Create the node's cgroup in every hierarchy.

    In v1, a cpuset accepts no process until it has CPUs and memory nodes.
    """
    for mount, is_unified in _hierarchies():
        folder = mount / node.cgroup
        folder.mkdir(exist_ok=True)
        if is_unified:
            _enable_controllers(mount)
            _enable_controllers(folder)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not is_unified and (folder / name).exists() and not (folder / name).read_text().strip():
                (folder / name).write_text((mount / name).read_text())


def kill_cgroups(*nodes: Node) -> None:
    """Send SIGKILL to every process in the cgroups of the nodes; return when they are empty."""
    kill_all(lambda: _processes(nodes), "the cluster's pods")


def remove_cgroups(*nodes: Node) -> None:
    """Remove the empty cgroups of the nodes.

    Retries, because the kernel can keep one briefly after its last process ended.
    """
    deadline = time.monotonic() + REMOVAL_SECONDS
    for folder in _folders(nodes):
        while folder.exists():
            try:
                folder.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"The cgroup {folder} cannot be removed: {error}.") from error
                time.sleep(POLL_SECONDS)


def cgroup_leftovers() -> list[str]:
    return [f"cgroup {folder}" for folder in _folders(NODES)]


def parse_hierarchies(mountinfo: str) -> list[tuple[Path, bool]]:
    """The cgroup mounts in the text of /proc/self/mountinfo, each with True for the unified (v2) hierarchy."""
    found: dict[Path, bool] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in {"cgroup", "cgroup2"}:
            found[Path(before.split(" ")[4])] = kind == "cgroup2"
    return list(found.items())


def _hierarchies() -> list[tuple[Path, bool]]:
    return parse_hierarchies(Path("/proc/self/mountinfo").read_text())


def _folders(nodes: Sequence[Node]) -> Iterator[Path]:
    """The cgroups of the nodes, children before parents."""
    for mount, _ in _hierarchies():
        for node in nodes:
            for folder, _, _ in os.walk(mount / node.cgroup, topdown=False):
                yield Path(folder)


def _processes(nodes: Sequence[Node]) -> set[int]:
    found: set[int] = set()
    for folder in _folders(nodes):
        try:
            found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        except (FileNotFoundError, OSError):
            continue
    return found


def _enable_controllers(folder: Path) -> None:
    controllers = (folder / "cgroup.controllers").read_text().split()
    for controller in controllers:
        (folder / "cgroup.subtree_control").write_text(f"+{controller}")
