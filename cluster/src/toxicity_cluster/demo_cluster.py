"""Prepares a cluster with the images, for the demo and the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from toxicity_cluster import containerd
from toxicity_cluster.build import build_programs
from toxicity_cluster.demo_install import CHART_IMAGES, Installation
from toxicity_cluster.demo_kubectl import Kubectl
from toxicity_cluster.errors import Refusal
from toxicity_cluster.images import build_images
from toxicity_cluster.kubectl import program
from toxicity_cluster.lifecycle import up
from toxicity_cluster.progress import Progress
from toxicity_cluster.prune import ensure_machine, make_room
from toxicity_cluster.push import push_images
from toxicity_cluster.settings import Settings

Step = Callable[[str], AbstractContextManager[None]]

NODE_IMAGES = (*CHART_IMAGES, "base-model", "dataset")
"""The images that pods run; the other images are only their parents."""


def prepare_cluster(
    settings: Settings,
    progress: Progress,
    step: Step,
    dataset: Path,
    registry: str | None,
    optional: Sequence[str] = (),
) -> Installation:
    """Build what is missing, start the embedded cluster unless KUBECONFIG is set, and load or push the images.

    `optional` names images in addition to NODE_IMAGES. Raises Refusal if the machine lacks something,
    or if KUBECONFIG is set without a registry.
    """
    if settings.given_kubeconfig and not registry:
        raise Refusal("KUBECONFIG needs a registry that its cluster can pull from: pass --registry PREFIX.")
    if registry and not settings.given_kubeconfig:
        raise Refusal("The embedded cluster takes no images from a registry: omit --registry or set KUBECONFIG.")
    if not registry:
        with step("checking the machine"):
            ensure_machine(settings, progress)
        with step("building the cluster's programs"):
            build_programs(settings, progress)
    with step("building the images"):
        parts = [*NODE_IMAGES, *optional]
        built = build_images(settings, progress, parts, dataset=dataset)
    images = {part: built[part] for part in parts}
    if registry:
        with step(f"pushing the images to {registry}"):
            images = push_images(settings, progress, images, registry)
    else:
        with step("starting the cluster"):
            up(settings, progress)
        with step("loading the images"):
            make_room(settings, progress)  # again: unused images of the node can only be found while it runs
            load_images(settings, progress, images)
    kubectl = Kubectl(program("kubectl", settings), settings.kubeconfig)
    return Installation(kubectl, program("helm", settings), images)


def load_images(settings: Settings, progress: Progress, images: Mapping[str, str]) -> None:
    """Load the images that the nodes lack."""
    for node in settings.nodes:
        for reference in images.values():
            if containerd.load(node, reference):
                progress.say(f"  loaded {reference} into {node.node.name}")
