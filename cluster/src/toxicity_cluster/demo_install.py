"""Installs the chart with helm, and fills a sample resource with the images of this build."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toxicity_cluster.commands import run
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, pull_secret_references
from toxicity_cluster.errors import ClusterError

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "toxicity-operator"
SAMPLES = ROOT / "manifests" / "samples"
SAMPLE_DATASET = SAMPLES / "data" / "comments.csv"

OPERATOR_NAMESPACE = "toxicity-system"
RELEASE = "toxicity-operator"
CHART_IMAGES = ("operator", "training", "quantization", "serving", "loadtest")
OPTIONAL_CHART_IMAGES = {"quantization-autoawq": "quantizationAutoawq"}
"""Images that only some resources need: part and key in the chart. The operator then has no image for a missing one."""

DATASET_FOLDER = "/dataset"
"""The folder in the dataset image with its only file, `comments.csv` or `comments.csv.gz`."""


@dataclass(frozen=True)
class Installation:
    """A cluster that has the images: where the demo and the end-to-end tests begin."""

    kubectl: Kubectl
    helm: Path
    images: Mapping[str, str]
    """Image references by part: CHART_IMAGES, base-model, dataset and the requested ones of OPTIONAL_CHART_IMAGES."""
    pull_secrets: Sequence[str] = ()
    """Secrets for the registry, in the namespaces of the operator and of the model."""


def chart_values(images: Mapping[str, str], pull_secrets: Sequence[str] = ()) -> dict[str, Any]:
    """The chart's values for these images. Raises ClusterError with the parts that have no image."""
    missing = [part for part in CHART_IMAGES if part not in images]
    if missing:
        raise ClusterError(f"there is no image for {', '.join(missing)}")
    optional = {
        key: image_value(images[part]) if part in images else {"repository": ""}
        for part, key in OPTIONAL_CHART_IMAGES.items()
    }
    values: dict[str, Any] = {"images": {part: image_value(images[part]) for part in CHART_IMAGES} | optional}
    return values | ({"imagePullSecrets": pull_secret_references(pull_secrets)} if pull_secrets else {})


def image_value(reference: str) -> dict[str, str]:
    """A reference `registry/repository:tag` as the chart's value."""
    registry, _, path = reference.partition("/")
    repository, _, tag = path.rpartition(":")
    return {"registry": registry, "repository": repository, "tag": tag}


def install_chart(
    installation: Installation, chart: Path = CHART, values: Mapping[str, Any] | None = None
) -> None:
    """Run `helm upgrade --install` and wait until the operator is ready.

    `values` default to the images with their pull Secrets.
    """
    if values is None:
        values = chart_values(installation.images, installation.pull_secrets)
    kubectl = installation.kubectl
    kubectl.ensure_namespace(OPERATOR_NAMESPACE)
    command = [str(installation.helm), "upgrade", "--install", RELEASE, str(chart), "-n", OPERATOR_NAMESPACE]
    command += [
        "--kubeconfig",
        str(kubectl.kubeconfig),
        "--take-ownership",
        "--wait",
        "--timeout",
        "5m",
        "-f",
        "-",
    ]
    run(command, input=json.dumps(values))


def load_sample(name: str) -> Manifest:
    """The sample manifest of that name."""
    loaded = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    if not isinstance(loaded, dict):
        raise ClusterError(f"manifests/samples/{name}.yaml is not one object")
    return loaded


def with_images(
    sample: Mapping[str, Any], images: Mapping[str, str], dataset_file: str, pull_secrets: Sequence[str] = ()
) -> Manifest:
    """A copy of `sample` whose data set and base model are the built images, with the Secrets to pull them."""
    manifest: Manifest = copy.deepcopy(dict(sample))
    spec = manifest["spec"]
    spec["dataset"]["image"] = {"reference": images["dataset"], "path": f"{DATASET_FOLDER}/{dataset_file}"}
    spec["baseModel"]["image"]["reference"] = images["base-model"]
    if pull_secrets:
        spec.setdefault("images", {})["pullSecrets"] = list(pull_secrets)
    return manifest


def dataset_file_name(dataset: Path) -> str:
    """The name of a data set inside its image; the suffix says whether it is gzipped."""
    return "comments.csv.gz" if dataset.name.endswith(".gz") else "comments.csv"
