"""The chart as helm renders it: with its defaults, with every knob turned, and with values it must refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from toxicity_cluster.build import build_programs
from toxicity_cluster.commands import run
from toxicity_cluster.errors import CommandFailed
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_operator.permissions import RULES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "toxicity-operator"
KUBERNETES = "1.36.0"
EVERYTHING = CHART / "ci" / "exercise-everything.yaml"

Documents = list[dict[str, Any]]
Render = Callable[..., Documents]


@pytest.fixture(scope="session")
def helm() -> str:
    """helm from the PATH, else the one that the embedded cluster uses."""
    return shutil.which("helm") or str(build_programs(Settings.from_environment(), Progress())["helm"])


@pytest.fixture
def render(helm: str) -> Render:
    """render(*arguments): the objects of `helm template` with these further arguments."""

    def template(*arguments: str) -> Documents:
        command = [helm, "template", "toxicity-operator", str(CHART), "-n", "toxicity-system"]
        text = run([*command, "--kube-version", KUBERNETES, *arguments])
        return [document for document in yaml.safe_load_all(text) if document]

    return template


def of_kind(documents: Documents, kind: str) -> dict[str, Any]:
    """The only object of this kind."""
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def environment(documents: Documents) -> dict[str, str]:
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_defaults_render_one_operator_with_cluster_wide_permissions(render: Render) -> None:
    documents = render()
    assert sorted(document["kind"] for document in documents) == [
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "ServiceAccount",
    ]
    deployment = of_kind(documents, "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert environment(documents)["WATCH_NAMESPACES"] == ""
    binding = of_kind(documents, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == of_kind(documents, "ClusterRole")["metadata"]["name"]
    account = of_kind(documents, "ServiceAccount")["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


def test_every_knob_reaches_an_object(render: Render) -> None:
    values = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))
    documents = render("-f", str(EVERYTHING))
    pod = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == values["images"]["operator"]
    assert container["resources"] == values["operator"]["resources"]
    assert pod["nodeSelector"] == values["operator"]["nodeSelector"]
    assert pod["tolerations"] == values["operator"]["tolerations"]
    assert environment(documents) == {
        "HOME": "/tmp",
        "IMAGE_TRAINING": values["images"]["training"],
        "IMAGE_QUANTIZATION": values["images"]["quantization"],
        "IMAGE_QUANTIZATION_AUTOAWQ": values["images"]["quantizationAutoawq"],
        "IMAGE_SERVING": values["images"]["serving"],
        "IMAGE_LOADTEST": values["images"]["loadtest"],
        "WATCH_NAMESPACES": "moderation,staging",
        "LOG_LEVEL": "debug",
    }
    bindings = [document for document in documents if document["kind"] == "RoleBinding"]
    assert [binding["metadata"]["namespace"] for binding in bindings] == values["watchNamespaces"]
    assert not [document for document in documents if document["kind"] == "ClusterRoleBinding"]


def test_exercise_file_turns_every_default() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    exercised = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))
    assert leaves(exercised) >= leaves(defaults)


def leaves(values: Any, path: str = "") -> set[str]:
    """The dotted paths of everything that is not a non-empty mapping."""
    if not isinstance(values, dict) or not values:
        return {path}
    inner = [leaves(value, f"{path}.{key}" if path else key) for key, value in values.items()]
    covered = {path} if path else set()
    return covered.union(*inner)


def test_crd_is_the_generated_one_and_kept(render: Render) -> None:
    generated = yaml.safe_load((CHART / "files" / "toxicitymodels.yaml").read_text(encoding="utf-8"))
    rendered = of_kind(render(), "CustomResourceDefinition")
    assert rendered["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
    assert rendered["spec"] == generated["spec"]
    unkept = of_kind(render("--set", "crds.keep=false"), "CustomResourceDefinition")
    assert "helm.sh/resource-policy" not in unkept["metadata"].get("annotations", {})
    kinds = [document["kind"] for document in render("--set", "crds.enabled=false")]
    assert "CustomResourceDefinition" not in kinds


def test_permissions_are_those_that_the_operator_states(render: Render) -> None:
    rules = of_kind(render(), "ClusterRole")["rules"]
    assert rules == RULES
    for rule in rules:
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not words & {"*", "escalate", "bind", "impersonate", "secrets"}, rule


def test_operator_pod_meets_the_restricted_level(render: Render) -> None:
    pod = of_kind(render(), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("watchNamespace=x", "watchNamespace"),
        ("images.trainning=a:b", "trainning"),
        ("operator.resources.limit.cpu=1", "limit"),
        ("operator.resources.limits.cpus=1", "cpus"),
        ("crds.kept=true", "kept"),
        ("logLevel=verbose", "logLevel"),
        ("images.operator=", "operator"),
    ],
)
def test_schema_refuses(render: Render, assignment: str, named: str) -> None:
    with pytest.raises(CommandFailed, match=named):
        render("--set", assignment)


def test_schema_is_closed_at_every_level() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    open_objects = [node for node in objects(schema) if node.get("additionalProperties", True) is True]
    assert open_objects == []


def objects(node: Any) -> list[dict[str, Any]]:
    """Every schema of type object below `node`."""
    if isinstance(node, list):
        return [found for item in node for found in objects(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [found for value in node.values() for found in objects(value)]


def test_lint_is_clean(helm: str) -> None:
    output = run([helm, "lint", "--strict", str(CHART), "-f", str(EVERYTHING)])
    assert "1 chart(s) linted, 0 chart(s) failed" in output
