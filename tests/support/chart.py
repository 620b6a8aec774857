"""The chart as helm renders it, and how its objects are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from toxicity_cluster.commands import run

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "toxicity-operator"
EVERYTHING = CHART / "ci" / "exercise-everything.yaml"
KUBERNETES = "1.36.0"
RELEASE = "toxicity-operator"
NAMESPACE = "toxicity-system"

Document = dict[str, Any]
Documents = list[Document]
Render = Callable[..., Documents]


def render_chart(
    helm: str, *arguments: str, release: str = RELEASE, namespace: str = NAMESPACE, chart: Path = CHART
) -> Documents:
    """The objects of `helm template` with these further arguments. Raises CommandFailed with helm's own words."""
    command = [helm, "template", release, str(chart), "-n", namespace, "--kube-version", KUBERNETES]
    # the parser in C: most of the text is the CRD
    return [document for document in yaml.load_all(run([*command, *arguments]), yaml.CSafeLoader) if document]


def all_of_kind(documents: Documents, kind: str) -> Documents:
    return [document for document in documents if document["kind"] == kind]


def of_kind(documents: Documents, kind: str) -> Document:
    """The only object of this kind."""
    (found,) = all_of_kind(documents, kind)
    return found


def operator_role(documents: Documents) -> Document:
    """The ClusterRole of the operator itself."""
    (found,) = (role for role in all_of_kind(documents, "ClusterRole") if not people_of(role))
    return found


def people_of(role: Document) -> set[str]:
    """The roles of Kubernetes' own (admin, edit, view) that have the rights of this one too."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    return {label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix)}


def operator_container(documents: Documents) -> Document:
    """The one container of the Deployment."""
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    found: Document = container
    return found


def environment(container: Document) -> dict[str, str]:
    """The variables whose value stands in the pod itself."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def image_reference(value: Mapping[str, str]) -> str:
    """The reference that one of `images` stands for, if it has a registry and a tag."""
    digest = value.get("digest")
    return f"{value['registry']}/{value['repository']}:{value['tag']}" + (f"@{digest}" if digest else "")


def load_values(path: Path) -> Document:
    """A values file."""
    loaded: Document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def leaves(values: Any, path: str = "") -> dict[str, Any]:
    """Everything that is not a non-empty mapping, by its dotted path."""
    if not isinstance(values, dict) or not values:
        return {path: values}
    return {
        inner: leaf
        for key, value in values.items()
        for inner, leaf in leaves(value, f"{path}.{key}" if path else key).items()
    }
