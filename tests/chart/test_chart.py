"""The operator's own objects: what is rendered by default, its permissions, its pod, its CRD."""

from __future__ import annotations

import pytest
import yaml

from rendering import (
    CHART,
    EVERYTHING,
    Documents,
    Render,
    all_of_kind,
    environment,
    load_values,
    of_kind,
    operator_container,
)
from toxicity_cluster.commands import run
from toxicity_operator.permissions import RULES
from toxicity_operator.settings import OperatorSettings


def test_defaults_render_one_operator_with_cluster_wide_permissions(defaults: Documents) -> None:
    assert sorted(document["kind"] for document in defaults) == [
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "Pod",
        "Service",
        "ServiceAccount",
    ]
    deployment = of_kind(defaults, "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert environment(operator_container(defaults))["WATCH_NAMESPACES"] == ""
    binding = of_kind(defaults, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == of_kind(defaults, "ClusterRole")["metadata"]["name"]
    account = of_kind(defaults, "ServiceAccount")["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


def test_operator_pod_gets_the_values(everything: Documents) -> None:
    values = load_values(EVERYTHING)
    pod, container = of_kind(everything, "Deployment")["spec"]["template"]["spec"], operator_container(everything)
    assert container["image"] == values["images"]["operator"]
    assert container["resources"] == values["operator"]["resources"]
    assert pod["nodeSelector"] == values["operator"]["nodeSelector"]
    assert pod["tolerations"] == values["operator"]["tolerations"]
    assert environment(container) == {
        "HOME": "/tmp",
        "IMAGE_TRAINING": values["images"]["training"],
        "IMAGE_QUANTIZATION": values["images"]["quantization"],
        "IMAGE_QUANTIZATION_AUTOAWQ": values["images"]["quantizationAutoawq"],
        "IMAGE_SERVING": values["images"]["serving"],
        "IMAGE_LOADTEST": values["images"]["loadtest"],
        "WATCH_NAMESPACES": "moderation,staging",
        "LOG_LEVEL": "debug",
    }


def test_environment_is_one_that_the_operator_accepts(everything: Documents) -> None:
    container = operator_container(everything)
    settings = OperatorSettings.from_environment(environment(container))
    assert settings.namespaces == ("moderation", "staging")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"healthz": settings.liveness_port, "metrics": settings.metrics_port}
    service = {port["targetPort"]: port["port"] for port in of_kind(everything, "Service")["spec"]["ports"]}
    assert service == ports


@pytest.mark.parametrize("namespaces", [["moderation"], ["moderation", "staging"]])
def test_with_namespaces_nothing_is_granted_outside_them(render: Render, namespaces: list[str]) -> None:
    documents = render("--set", f"watchNamespaces={{{','.join(namespaces)}}}")
    assert all_of_kind(documents, "ClusterRoleBinding") == []
    bindings = all_of_kind(documents, "RoleBinding")
    assert [binding["metadata"]["namespace"] for binding in bindings] == namespaces
    role, account = of_kind(documents, "ClusterRole"), of_kind(documents, "ServiceAccount")["metadata"]
    for binding in bindings:
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role["metadata"]["name"],
        }
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]
    assert "aggregationRule" not in role
    assert not [label for label in role["metadata"]["labels"] if label.startswith("rbac.authorization.k8s.io/")]


def test_crd_is_the_generated_one_and_kept(defaults: Documents, render: Render) -> None:
    generated = yaml.safe_load((CHART / "files" / "toxicitymodels.yaml").read_text(encoding="utf-8"))
    rendered = of_kind(defaults, "CustomResourceDefinition")
    assert rendered["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
    assert rendered["spec"] == generated["spec"]
    unkept = of_kind(render("--set", "crds.keep=false"), "CustomResourceDefinition")
    assert "helm.sh/resource-policy" not in unkept["metadata"].get("annotations", {})
    assert all_of_kind(render("--set", "crds.enabled=false"), "CustomResourceDefinition") == []


def test_permissions_are_those_that_the_operator_states(defaults: Documents) -> None:
    rules = of_kind(defaults, "ClusterRole")["rules"]
    assert rules == RULES
    for rule in rules:
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not words & {"*", "escalate", "bind", "impersonate", "secrets"}, rule


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_pods_meet_the_restricted_level(everything: Documents, kind: str) -> None:
    found = of_kind(everything, kind)
    pod = found["spec"]["template"]["spec"] if kind == "Deployment" else found["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in container.get("volumeMounts", [])] in (["/tmp"], [])
    assert pod["automountServiceAccountToken"] is (kind == "Deployment")


def test_lint_is_clean(helm: str) -> None:
    output = run([helm, "lint", "--strict", str(CHART), "-f", str(EVERYTHING)])
    assert "1 chart(s) linted, 0 chart(s) failed" in output
