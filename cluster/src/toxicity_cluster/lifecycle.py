"""Starts, stops and checks the cluster. `up` repairs a cluster in any state."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from toxicity_cluster import components, keda, ready, second_node
from toxicity_cluster.addons import apply_addons
from toxicity_cluster.build import build_programs
from toxicity_cluster.cgroups import ensure_cgroups
from toxicity_cluster.configuration import write_configuration
from toxicity_cluster.errors import ClusterError, Refusal
from toxicity_cluster.network import ensure_network, processes_in_namespace
from toxicity_cluster.node_image import node_image_name
from toxicity_cluster.pki import ensure_pki
from toxicity_cluster.processes import is_running
from toxicity_cluster.progress import Progress
from toxicity_cluster.prune import ensure_machine
from toxicity_cluster.settings import NETWORK_NAMESPACE, Settings
from toxicity_cluster.start import ensure_all, start_containerd
from toxicity_cluster.teardown import tear_down


def up(settings: Settings, progress: Progress, *, with_keda: bool = False, nodes: int = 1) -> None:
    """Start the cluster, or repair it; return when it is usable. Builds the programs that the cache lacks.

    Running processes continue, and missing ones are started. A cluster that cannot be repaired is replaced by a new
    one. A second node, and Prometheus with KEDA, are started on request, or if the existing cluster has them. Raises
    Refusal if the machine lacks something, and ClusterError if a new cluster fails.
    """
    if settings.given_kubeconfig:
        progress.say(f"using the cluster of KUBECONFIG={settings.given_kubeconfig}: no cluster is started")
        return
    ensure_machine(settings, progress)
    programs = build_programs(settings, progress)
    with exclusive(settings):
        refuse_foreign_cluster(settings)
        existed = settings.marker.exists()
        try:
            _start(settings, programs, progress)
        except ClusterError as error:
            if not existed:
                raise
            progress.say(f"the existing cluster cannot be repaired and is replaced: {error}")
            tear_down(settings, progress)
            _start(settings, programs, progress)
        if nodes > 1 or len(settings.nodes) > 1:
            second_node.start(settings, programs, progress)
        if with_keda or keda.is_installed(settings):
            keda.ensure(settings, progress)
    progress.say(f"the cluster is usable: export KUBECONFIG={settings.kubeconfig}")


def down(settings: Settings, progress: Progress) -> None:
    """Remove the cluster with its pods and volumes; the cache stays."""
    if settings.given_kubeconfig:
        progress.say("KUBECONFIG is set: the embedded cluster is not stopped; unset it first")
        return
    with exclusive(settings):
        refuse_foreign_cluster(settings)
        tear_down(settings, progress)


def find_problems(settings: Settings) -> list[str]:
    """The problems of the cluster, in words; empty if it is usable."""
    if settings.given_kubeconfig:
        missing = ready.check_api(settings)
        return [missing] if missing else []
    if not settings.marker.exists():
        return [f"there is no cluster under {settings.state}: run `python -m toxicity_cluster up`"]
    stopped = [f"{name} is not running" for name in components.ALL if not is_running(settings, name)]
    for node in settings.nodes[1:]:
        names = ("containerd", *components.WORKER)
        stopped += [f"{name} of {node.node.name} is not running" for name in names if not is_running(node, name)]
    return [*stopped, *ready.find_problems(settings)]


def refuse_foreign_cluster(settings: Settings) -> None:
    """Raise Refusal if a cluster with another state folder uses the network namespace."""
    pids = [] if settings.marker.exists() else processes_in_namespace(settings)
    if pids:
        some = ", ".join(map(str, pids[:5]))
        raise Refusal(
            f"Processes ({some}) of a cluster that is not under {settings.state} use the network namespace "
            f"{NETWORK_NAMESPACE}: set TOXICITY_STATE to the folder of that cluster and run `down`."
        )


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Lock the cluster: one command at a time changes it, and others wait."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(settings: Settings, programs: Mapping[str, Path], progress: Progress) -> None:
    node_program = programs["pause"].read_bytes()
    is_fresh = not settings.marker.exists()
    settings.state.mkdir(parents=True, exist_ok=True)
    settings.marker.touch()
    with progress.step("network, certificates and configuration"):
        ensure_network(settings)
        ensure_pki(settings)
        write_configuration(settings, node_image_name(node_program))
        ensure_cgroups(settings.node)
    with progress.step("containerd"):
        start_containerd(settings, node_program, is_fresh=is_fresh)
    with progress.step("control plane"):
        ensure_all(settings, programs, components.CONTROL_PLANE)
        ready.wait_until(settings, ready.API)
    with progress.step("node and add-ons"):
        ensure_all(settings, programs, components.NODE)
        ready.wait_until(settings, ready.SYSTEM_NAMESPACE)
        apply_addons(settings)
        ready.wait_until(settings, ready.PERMISSIONS)
        ensure_all(settings, programs, components.ADDONS)
        for check in ready.USABLE:
            ready.wait_until(settings, check)
            progress.say(f"  {check.name}: ready")
