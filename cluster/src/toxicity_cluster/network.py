"""The network namespace of the node, its pods and its Services; a veth pair connects it to the host."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError, CommandFailed
from toxicity_cluster.settings import (
    HOST_ADDRESS,
    HOST_INTERFACE,
    LINK_PREFIX,
    NETWORK_NAMESPACE,
    NODE_ADDRESS,
    POD_CIDR,
    SERVICE_CIDR,
    Settings,
)

FORWARDING = "/proc/sys/net/ipv4/ip_forward"
BRIDGE_CALLS_IPTABLES = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def inside(settings: Settings, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in the namespace.

    It is not `ip netns exec`, which remounts /sys and so hides the cgroup mounts from the kubelet.
    """
    return ["nsenter", f"--net={settings.netns}", "--wd=/", *argv]


def ensure_network(settings: Settings) -> None:
    """Create the namespace, the veth pair, the addresses and the routes that are missing."""
    if not _is_namespace(settings.netns):
        settings.netns.unlink(missing_ok=True)
        run(["ip", "netns", "add", NETWORK_NAMESPACE])
    if not Path("/sys/class/net", HOST_INTERFACE).exists():
        peer = ("peer", "name", "eth0", "netns", NETWORK_NAMESPACE)
        run(["ip", "link", "add", HOST_INTERFACE, "type", "veth", *peer])
    run(["ip", "address", "replace", f"{HOST_ADDRESS}/{LINK_PREFIX}", "dev", HOST_INTERFACE])
    run(["ip", "link", "set", HOST_INTERFACE, "up"])
    in_namespace = ["ip", "-n", NETWORK_NAMESPACE]
    run([*in_namespace, "link", "set", "lo", "up"])
    run([*in_namespace, "address", "replace", f"{NODE_ADDRESS}/{LINK_PREFIX}", "dev", "eth0"])
    run([*in_namespace, "link", "set", "eth0", "up"])
    run([*in_namespace, "route", "replace", "default", "via", HOST_ADDRESS])
    for cidr in (POD_CIDR, SERVICE_CIDR):
        run(["ip", "route", "replace", cidr, "via", NODE_ADDRESS])
    _set_kernel_parameters(settings)


def remove_network() -> None:
    """Delete the veth pair and the namespace, if they exist."""
    for argv in (["ip", "link", "delete", HOST_INTERFACE], ["ip", "netns", "delete", NETWORK_NAMESPACE]):
        try:
            run(argv)
        except CommandFailed as error:
            if "Cannot find device" not in str(error) and "No such file" not in str(error):
                raise


def network_leftovers(settings: Settings) -> list[str]:
    """What `remove_network` did not remove, in words."""
    left = []
    if settings.netns.exists():
        left.append(f"network namespace {NETWORK_NAMESPACE}")
    if Path("/sys/class/net", HOST_INTERFACE).exists():
        left.append(f"network interface {HOST_INTERFACE}")
    return left


def _is_namespace(path: Path) -> bool:
    """A file under /run/netns is a namespace only while nsfs is mounted on it."""
    return path.exists() and path.stat().st_dev != path.parent.stat().st_dev


def _set_kernel_parameters(settings: Settings) -> None:
    if not Path(BRIDGE_CALLS_IPTABLES).exists() and shutil.which("modprobe"):
        run(["modprobe", "br_netfilter"])
    for parameter in (FORWARDING, BRIDGE_CALLS_IPTABLES):
        try:
            run(inside(settings, ["sh", "-c", f"echo 1 > {parameter}"]))
        except CommandFailed as error:
            raise ClusterError(
                f"The kernel parameter {parameter} cannot be set: load the module br_netfilter ({error})."
            ) from error


def processes_in_namespace(settings: Settings) -> list[int]:
    """The pids of all processes in the namespace of the node; pods have other network namespaces."""
    if not settings.netns.exists():
        return []
    namespace = settings.netns.stat()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            theirs = (folder / "ns" / "net").stat()
        except OSError:  # the process ended meanwhile
            continue
        if (theirs.st_dev, theirs.st_ino) == (namespace.st_dev, namespace.st_ino):
            found.append(int(folder.name))
    return found
