"""Prepares a cluster with the images, for the demo and the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
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
from toxicity_cluster.push import push_images, registry_prefix
from toxicity_cluster.settings import Settings

Step = Callable[[str], AbstractContextManager[None]]

NODE_IMAGES = (*CHART_IMAGES, "base-model", "dataset")
"""The images that pods run; the other images are only their parents."""


def choose_cluster(cluster: str | None, settings: Settings, registry: str | None, home: Path) -> Settings:
    """The settings for the cluster `embedded` or `current`; by default `current` if KUBECONFIG is set.

    `current` is that of KUBECONFIG, or else of ~/.kube/config. Raises Refusal with the remedy.
    """
    if (cluster or "embedded") == "embedded" and not settings.given_kubeconfig:
        if registry:
            raise Refusal(
                "The embedded cluster takes no images from a registry: pass CLUSTER=current, or no REGISTRY."
            )
        return settings
    if cluster == "embedded":
        raise Refusal("KUBECONFIG names another cluster than the embedded one: unset it, or pass CLUSTER=current.")
    kubeconfig = settings.given_kubeconfig or home / ".kube" / "config"
    if not kubeconfig.is_file():
        raise Refusal(f"{kubeconfig} does not exist: set KUBECONFIG to the file of the cluster to use.")
    if not registry:
        raise Refusal("The cluster pulls the images from a registry: set REGISTRY, such as registry.example/team.")
    registry_prefix(registry)
    return replace(settings, given_kubeconfig=kubeconfig)


def prepare_cluster(
    settings: Settings,
    progress: Progress,
    step: Step,
    dataset: Path,
    registry: str | None,
    optional: Sequence[str] = (),
    engine: str = "buildah",
) -> Installation:
    """Build what is missing, start the embedded cluster unless KUBECONFIG is set, and load or push the images.

    `settings` are those of `choose_cluster` for this registry. `optional` names images in addition to NODE_IMAGES.
    Raises Refusal if the machine lacks something.
    """
    if not registry:
        with step("checking the machine"):
            ensure_machine(settings, progress)
        with step("building the cluster's programs"):
            build_programs(settings, progress)
    with step("building the images"):
        parts = [*NODE_IMAGES, *optional]
        built = build_images(settings, progress, parts, dataset, engine)
    images = {part: built[part] for part in parts}
    if registry:
        with step(f"pushing the images to {registry}"):
            images = push_images(settings, progress, images, registry, engine)
    else:
        with step("starting the cluster"):
            up(settings, progress)
        with step("loading the images"):
            load_images(settings, progress, images)
    kubectl = Kubectl(program("kubectl", settings), settings.kubeconfig)
    return Installation(kubectl, program("helm", settings), images)


def load_images(settings: Settings, progress: Progress, images: Mapping[str, str]) -> None:
    """Load the images that the nodes lack.

    Makes room before each one: unused images of the node are found only while it runs, and on a full disk the kubelet
    removes images that no registry has.
    """
    for node in settings.nodes:
        present = containerd.list_images(node)
        for reference in images.values():
            if reference not in present:
                make_room(settings, progress)
                containerd.load(node, reference)
                progress.say(f"  loaded {reference} into {node.node.name}")
