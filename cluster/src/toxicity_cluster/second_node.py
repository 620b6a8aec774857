"""The second node: started on request, killed as by a power failure, or removed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from toxicity_cluster import components, network, ready, teardown
from toxicity_cluster.cgroups import ensure_cgroups, kill_cgroups, remove_cgroups
from toxicity_cluster.configuration import write_configuration
from toxicity_cluster.kubectl import kubectl
from toxicity_cluster.node_image import node_image_name
from toxicity_cluster.processes import recorded_names, stop
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_cluster.start import ensure_all, start_containerd


def start(settings: Settings, programs: Mapping[str, Path], progress: Progress) -> None:
    """Start or repair the second node, also after `kill`; return when it is Ready. The first one must be usable."""
    node, program = settings.second_node, programs["pause"].read_bytes()
    with progress.step("second node"):
        is_fresh = not node.state.exists()
        node.state.mkdir(exist_ok=True)
        network.ensure_second_network(settings, node)
        write_configuration(node, node_image_name(program))
        ensure_cgroups(node.node)
        start_containerd(node, program, is_fresh=is_fresh)
        ensure_all(node, programs, components.WORKER)
        ready.wait_until(node, ready.NODE)


def kill(settings: Settings) -> None:
    """Kill every process of the node and its pods at once. The Node object, the volumes and the images stay."""
    node = settings.second_node
    for name in recorded_names(node):
        stop(node, name, grace_seconds=0.0)
    teardown.kill_namespace(node)
    kill_cgroups(node.node)


def remove(settings: Settings) -> None:
    """Remove the node with its pods, volumes and images, which the first node has, too."""
    node = settings.second_node
    kubectl("delete", "node", node.node.name, "--ignore-not-found", "--wait=false", settings=settings)
    kill(settings)
    teardown.unmount(node)
    remove_cgroups(node.node)
    network.remove_second_network()
    for folder in (node.containerd_root, node.state):
        if folder.exists():
            shutil.rmtree(folder)
