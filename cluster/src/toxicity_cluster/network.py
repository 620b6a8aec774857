"""The network namespace of each node and its pods. A veth pair connects the first one to the host.

Another one connects the second node to the first, which forwards what the second exchanges with the host. So the host
need not forward packets.
"""

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
    SECOND_ADDRESS,
    SECOND_GATEWAY,
    SECOND_LINK,
    SECOND_NODE,
    SECOND_POD_CIDR,
    SERVICE_CIDR,
    Settings,
)

SECOND_INTERFACE = "node-2"
"""The end of the link to the second node, in the namespace of the first."""
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
BRIDGE_CALLS_IPTABLES = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def inside(settings: Settings, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in the namespace.

    It is not `ip netns exec`, which remounts /sys and so hides the cgroup mounts from the kubelet.
    """
    return ["nsenter", f"--net={settings.netns}", "--wd=/", *argv]


def ensure_network(settings: Settings) -> None:
    """Create what is missing of the first node's network: namespace, veth pair, addresses and routes."""
    _ensure_namespace(settings)
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


def ensure_second_network(first: Settings, second: Settings) -> None:
    """Create what is missing of the second node's network. That of the first node must exist."""
    _ensure_namespace(second)
    at_first, at_second = (["ip", "-n", node.node.namespace] for node in (first, second))
    if SECOND_INTERFACE not in run([*at_first, "-brief", "link"]):
        peer = ("peer", "name", "eth0", "netns", second.node.namespace)
        run([*at_first, "link", "add", SECOND_INTERFACE, "type", "veth", *peer])
    for node, device, address in (
        (at_first, SECOND_INTERFACE, SECOND_GATEWAY),
        (at_second, "eth0", SECOND_ADDRESS),
    ):
        run([*node, "address", "replace", f"{address}/{LINK_PREFIX}", "dev", device])
        run([*node, "link", "set", device, "up"])
    run([*at_second, "link", "set", "lo", "up"])
    run([*at_second, "route", "replace", "default", "via", SECOND_GATEWAY])
    run([*at_first, "route", "replace", SECOND_POD_CIDR, "via", SECOND_ADDRESS])
    for cidr in (SECOND_LINK, SECOND_POD_CIDR):
        run(["ip", "route", "replace", cidr, "via", NODE_ADDRESS])
    _set_kernel_parameters(second)


def remove_network() -> None:
    """Delete the veth pairs and the namespaces, if they exist. A namespace takes its end of a pair with it."""
    _delete(["ip", "link", "delete", HOST_INTERFACE])
    _delete(["ip", "netns", "delete", NETWORK_NAMESPACE])
    _delete(["ip", "netns", "delete", SECOND_NODE.namespace])


def remove_second_network() -> None:
    """Delete the second node's namespace with its link, and the routes to it, if they exist."""
    _delete(["ip", "-n", NETWORK_NAMESPACE, "link", "delete", SECOND_INTERFACE])
    _delete(["ip", "netns", "delete", SECOND_NODE.namespace])
    for cidr in (SECOND_LINK, SECOND_POD_CIDR):
        _delete(["ip", "route", "delete", cidr])


def _delete(argv: Sequence[str]) -> None:
    """Run a deletion. What does not exist is no error."""
    try:
        run(argv)
    except CommandFailed as error:
        if not any(word in str(error) for word in ("Cannot find device", "No such file", "No such process")):
            raise


def network_leftovers(settings: Settings) -> list[str]:
    """What `remove_network` did not remove, in words."""
    left = [
        f"network namespace {node.netns.name}" for node in (settings, settings.second_node) if node.netns.exists()
    ]
    if Path("/sys/class/net", HOST_INTERFACE).exists():
        left.append(f"network interface {HOST_INTERFACE}")
    return left


def _ensure_namespace(settings: Settings) -> None:
    if not _is_namespace(settings.netns):
        settings.netns.unlink(missing_ok=True)
        run(["ip", "netns", "add", settings.node.namespace])


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
