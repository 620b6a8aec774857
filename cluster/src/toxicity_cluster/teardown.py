"""Removes the cluster: processes, containers, mounts, cgroups, network and state; then checks what is left."""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path

from toxicity_cluster import containerd, network
from toxicity_cluster.cgroups import cgroup_leftovers, kill_cgroups, remove_cgroups
from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError
from toxicity_cluster.processes import is_running, kill_all, recorded_names, stop
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import NODES, Settings

CONTAINERD_STOP_SECONDS = 15.0

# Written outside the state folder by the CNI library, containerd and the kubelet, which offer no setting for it.
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOG_LINKS = Path("/var/log/containers")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
SHIM_SOCKETS = Path("/run/containerd/s")
SHARED_FOLDERS = (
    CONTAINER_LOG_LINKS,
    CNI_RESULTS,
    CNI_RESULTS.parent,
    DEVICE_PLUGINS.parent,
    SHIM_SOCKETS,
    SHIM_SOCKETS.parent,
)


def tear_down(settings: Settings, progress: Progress) -> None:
    """Remove everything. Raises ClusterError with the list of what could not be removed."""
    with progress.step("removing the cluster"):
        # The kubelet is first, or it would restart what is removed. There is no grace period: the state is removed too,
        # and the API server alone would need up to a minute.
        nodes = settings.nodes[::-1]
        for node in nodes:
            _stop_all_but_containerd(node)
        stuck = [error for node in nodes for error in _remove_containers(node)]
        for node in nodes:
            stop(node, "containerd", grace_seconds=CONTAINERD_STOP_SECONDS)
            kill_namespace(node)
        kill_cgroups(*NODES)
        unmount(settings)
        remove_cgroups(*NODES)
        network.remove_network()
        _remove_files(settings)
        left = [*stuck, *find_leftovers(settings)]
        if left:
            raise ClusterError(f"Not everything could be removed: {'; '.join(left)}.")


def _stop_all_but_containerd(settings: Settings) -> None:
    for name in sorted(recorded_names(settings), key=lambda name: name != "kubelet"):
        if name != "containerd":
            stop(settings, name, grace_seconds=0.0)


def _remove_containers(settings: Settings) -> list[str]:
    """Remove all containers; return the errors. The teardown continues after them, and the next `up` tries again."""
    if not is_running(settings, "containerd") or not containerd.is_answering(settings, containerd.VERDICT_SECONDS):
        return []
    try:
        containerd.remove_containers(settings, containerd.containers_of(settings))
    except ClusterError as error:
        return [str(error)]
    return []


def find_leftovers(settings: Settings) -> list[str]:
    """What is left of a cluster on the machine, in words."""
    mounts = [f"mount {path}" for path in _mounts(settings)]
    state = [f"folder {settings.state}"] if settings.marker.exists() else []
    return [*network.network_leftovers(settings), *mounts, *cgroup_leftovers(), *state]


def parse_mounts(mountinfo: str, folder: Path) -> list[Path]:
    """The mount points at or below `folder` in the text of /proc/self/mountinfo, deepest first."""
    points = (Path(_unescape(line.split(" ")[4])) for line in mountinfo.splitlines())
    ours = [point for point in points if point == folder or folder in point.parents]
    return sorted(ours, key=lambda point: len(point.parts), reverse=True)


def _unescape(field: str) -> str:
    """Replace the octal escapes with which mountinfo writes blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _mounts(settings: Settings) -> list[Path]:
    return parse_mounts(Path("/proc/self/mountinfo").read_text(), settings.state)


def kill_namespace(settings: Settings) -> None:
    """Kill what still runs in the namespace: containerd's shims, and processes without a pid file."""
    kill_all(lambda: network.processes_in_namespace(settings), "the cluster")


def unmount(settings: Settings) -> None:
    for point in _mounts(settings):
        run(["umount", "--lazy", str(point)])


def _remove_files(settings: Settings) -> None:
    """Remove the state folder, if this program created it and nothing is mounted in it, and the files outside it."""
    _remove_outside(settings.state)
    if settings.marker.exists() and not _mounts(settings):
        shutil.rmtree(settings.state)


def _remove_outside(state: Path) -> None:
    """Remove the cluster's files from folders that other runtimes share, and the folders if they are empty."""
    for link in CONTAINER_LOG_LINKS.glob("*.log"):
        if link.is_symlink() and state in Path(os.readlink(link)).parents:
            link.unlink()
    for result in CNI_RESULTS.glob("*"):
        if f"{state}/" in result.read_text():  # the file has the path of the pod's network namespace
            result.unlink()
    if [path.name for path in DEVICE_PLUGINS.parent.glob("*")] == [DEVICE_PLUGINS.name]:  # only this kubelet's
        shutil.rmtree(DEVICE_PLUGINS)
    for shim in SHIM_SOCKETS.glob("*"):
        if not _is_listening(shim):
            shim.unlink()
    for folder in SHARED_FOLDERS:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
