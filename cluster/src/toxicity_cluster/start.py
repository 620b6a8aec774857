"""Starts what every node has: containerd with the node's image, and processes by their specification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from toxicity_cluster import components, containerd, ready
from toxicity_cluster.node_image import node_image_name, write_node_image
from toxicity_cluster.processes import ensure_running
from toxicity_cluster.settings import Settings


def start_containerd(settings: Settings, program: bytes, *, is_fresh: bool) -> None:
    """Start the node's containerd and give it the node's image. In a fresh state, remove containers from before."""
    ensure_running(settings, components.containerd(settings))
    ready.wait_until(settings, ready.CONTAINERD)
    if is_fresh:
        containerd.remove_containers(settings, containerd.containers_of(settings))
    if node_image_name(program) in containerd.list_images(settings):
        return
    archive = settings.state / "node-image.tar"
    write_node_image(program, archive)
    containerd.load(settings, str(archive))
    archive.unlink()


def ensure_all(settings: Settings, programs: Mapping[str, Path], names: tuple[str, ...]) -> None:
    for name in names:
        ensure_running(settings, components.build_spec(settings, programs, name))
