"""The operator's own objects: what is rendered by default, its permissions, its pod, its CRD."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import yaml

from support.builders import a_model
from support.chart import (
    CHART,
    EVERYTHING,
    NAMESPACE,
    RELEASE,
    Documents,
    Render,
    all_of_kind,
    environment,
    image_reference,
    load_values,
    of_kind,
    operator_container,
    operator_role,
    people_of,
)
from toxicity_api.crd import build_crd
from toxicity_cluster.commands import run
from toxicity_operator.kube.permissions import LEASE_RULES, RULES
from toxicity_operator.pod_defaults import with_pod_defaults
from toxicity_operator.settings import OperatorSettings


def test_defaults_render_one_operator_with_cluster_wide_permissions(defaults: Documents) -> None:
    assert sorted(document["kind"] for document in defaults) == [
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "Pod",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ]
    deployment = of_kind(defaults, "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert environment(operator_container(defaults))["WATCH_NAMESPACES"] == ""
    binding = of_kind(defaults, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == operator_role(defaults)["metadata"]["name"]
    account = of_kind(defaults, "ServiceAccount")["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


def load_chart() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return found


def test_operator_pod_gets_the_values(everything: Documents) -> None:
    values = load_values(EVERYTHING)
    images = {part: image_reference(value) for part, value in values["images"].items()}
    pod, container = of_kind(everything, "Deployment")["spec"]["template"]["spec"], operator_container(everything)
    assert container["image"] == images["operator"]
    assert container["resources"] == values["operator"]["resources"]
    assert pod["nodeSelector"] == values["operator"]["nodeSelector"]
    assert pod["tolerations"] == values["operator"]["tolerations"]
    assert pod["imagePullSecrets"] == values["imagePullSecrets"]
    assert pod["affinity"] == values["operator"]["affinity"]
    assert pod["priorityClassName"] == values["operator"]["priorityClassName"]
    found = environment(container)
    assert json.loads(found.pop("POD_DEFAULTS")) == values["pods"]
    assert found == {
        "HOME": "/tmp",
        "IMAGE_TRAINING": images["training"],
        "IMAGE_QUANTIZATION": images["quantization"],
        "IMAGE_QUANTIZATION_AUTOAWQ": images["quantizationAutoawq"],
        "IMAGE_SERVING": images["serving"],
        "IMAGE_LOADTEST": images["loadtest"],
        "WATCH_NAMESPACES": "moderation,staging",
        "OPERATOR_CLASS": "fast",
        "LEADER_ELECTION": "true",
        "LEASE_NAMESPACE": NAMESPACE,
        "LEASE_NAME": RELEASE,
        "OPERATOR_VERSION": load_chart()["appVersion"],
        "UPGRADES_POLICY": "RollOut",
        "UPGRADES_AT_ONCE": "3",
        "LOG_LEVEL": "debug",
    }


def test_environment_is_one_that_the_operator_accepts(everything: Documents) -> None:
    container = operator_container(everything)
    settings = OperatorSettings.from_environment(environment(container) | {"POD_NAME": "operator-0"})
    assert settings.namespaces == ("moderation", "staging")
    assert (settings.upgrades, settings.upgrades_at_once) == ("RollOut", 3)
    assert settings.lease is not None and settings.lease.name == RELEASE
    defaults = settings.pod_defaults
    assert (defaults.gpu_resource_name, defaults.hub_endpoint) == ("nvidia.com/mig-1g.10gb", "https://hub.example")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"healthz": settings.liveness_port, "metrics": settings.metrics_port}
    service = {port["targetPort"]: port["port"] for port in of_kind(everything, "Service")["spec"]["ports"]}
    assert service == ports


def test_pod_defaults_are_unset_without_values(defaults: Documents) -> None:
    container = operator_container(defaults)
    settings = OperatorSettings.from_environment(environment(container) | {"POD_NAME": "operator-0"})
    spec = a_model().build().spec
    assert with_pod_defaults(spec, settings.pod_defaults) == spec


@pytest.mark.parametrize("namespaces", [["moderation"], ["moderation", "staging"]])
def test_with_namespaces_nothing_is_granted_outside_them(render: Render, namespaces: list[str]) -> None:
    documents = render("--set", f"watchNamespaces={{{','.join(namespaces)}}}")
    assert all_of_kind(documents, "ClusterRoleBinding") == []
    bindings = bindings_of_operator(documents)
    assert [binding["metadata"]["namespace"] for binding in bindings] == namespaces
    role, account = operator_role(documents), of_kind(documents, "ServiceAccount")["metadata"]
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


def bindings_of_operator(documents: Documents) -> Documents:
    """The RoleBindings of its ClusterRole, without that of the Lease."""
    return [item for item in all_of_kind(documents, "RoleBinding") if item["roleRef"]["kind"] == "ClusterRole"]


def test_lease_is_granted_in_the_namespace_of_the_release_by_its_name(everything: Documents) -> None:
    role, account = of_kind(everything, "Role"), of_kind(everything, "ServiceAccount")["metadata"]
    name = environment(operator_container(everything))["LEASE_NAME"]
    named = [rule.pop("resourceNames", None) for rule in role["rules"]]
    assert (role["rules"], named) == (LEASE_RULES, [None, [name]])
    (binding,) = (item for item in all_of_kind(everything, "RoleBinding") if item["roleRef"]["kind"] == "Role")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {role["metadata"]["namespace"], binding["metadata"]["namespace"]} == {NAMESPACE}
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


def test_one_pod_goes_before_the_next_and_several_wait_beside_each_other(render: Render) -> None:
    one = of_kind(render(), "Deployment")["spec"]
    assert one["strategy"] == {"type": "Recreate"}
    assert "affinity" not in one["template"]["spec"]
    several = of_kind(render("--set", "operator.replicas=3"), "Deployment")["spec"]
    assert several["replicas"] == 3
    assert several["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    (term,) = several["template"]["spec"]["affinity"]["podAntiAffinity"].pop(
        "preferredDuringSchedulingIgnoredDuringExecution"
    )
    assert term["podAffinityTerm"]["labelSelector"] == several["selector"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def test_two_releases_have_no_object_in_common_but_the_crd(render: Render) -> None:
    """In one namespace, and in two with the same name."""
    releases = [
        render(
            "-f",
            str(EVERYTHING),
            "--set",
            "rbac.aggregate=true,serviceAccount.name=",
            release=release,
            namespace=namespace,
        )
        for release, namespace in (("fast", "system"), ("slow", "system"), ("fast", "elsewhere"))
    ]
    kinds = [
        {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents}
        for documents in releases
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert {kind for kind, *_ in kinds[one] & kinds[other]} == {"CustomResourceDefinition"}
    assert [len(found) for found in kinds] == [len(documents) for documents in releases]


@pytest.mark.parametrize(
    ("release", "name"),
    [("toxicity-operator", "toxicity-operator"), ("my-toxicity-operator", "my-toxicity-operator"),
     ("fast", "fast-toxicity-operator"), ("a" * 53, "a" * 53 + "-toxicity")],
)  # fmt: skip
def test_objects_bear_the_name_of_the_release(render: Render, release: str, name: str) -> None:
    documents = render(release=release)
    assert {of_kind(documents, kind)["metadata"]["name"] for kind in ("Deployment", "Service", "Role")} == {name}


def test_crd_is_the_generated_one_and_kept(defaults: Documents, render: Render) -> None:
    generated = yaml.safe_load((CHART / "files" / "toxicitymodels.yaml").read_text(encoding="utf-8"))
    rendered = of_kind(defaults, "CustomResourceDefinition")
    assert rendered["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
    assert rendered["spec"] == generated["spec"]
    unkept = of_kind(render("--set", "crds.keep=false"), "CustomResourceDefinition")
    assert "helm.sh/resource-policy" not in unkept["metadata"].get("annotations", {})
    assert all_of_kind(render("--set", "crds.enabled=false"), "CustomResourceDefinition") == []


def test_permissions_are_those_that_the_operator_states(defaults: Documents) -> None:
    rules = operator_role(defaults)["rules"]
    assert rules == RULES
    for rule in rules:
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not words & {"*", "escalate", "bind", "impersonate"}, rule
        assert "secrets" not in words or rule["verbs"] == ["get"]


def secret_fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    """The fields outside lists that name a Secret."""
    for name, field in schema.get("properties", {}).items():
        if name.lower().endswith("secretname"):
            yield f"{path}.{name}"
        yield from secret_fields(field, f"{path}.{name}")


def test_policy_sees_every_field_that_names_a_secret(render: Render) -> None:
    rendered = render("--set", "admissionPolicies.enabled=true", "--set", "admissionPolicies.secrets={hf-*}")
    (version,) = build_crd()["spec"]["versions"]
    fields = set(secret_fields(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec"))
    assert len(fields) > 5
    text = json.dumps(all_of_kind(rendered, "ValidatingAdmissionPolicy"))
    assert {field for field in fields if f"'{field}'" not in text} == set()


def test_secrets_are_not_read_where_the_chart_says_so(render: Render) -> None:
    rules = operator_role(render("--set", "rbac.secrets=false"))["rules"]
    assert [rule["verbs"] for rule in rules if "configmaps" in rule["resources"]] == [["get"]]
    assert not any("secrets" in rule["resources"] for rule in rules)


def test_people_of_a_namespace_edit_and_view_resources_and_write_no_status(defaults: Documents) -> None:
    granted: dict[tuple[str, str], set[str]] = {}
    for role in all_of_kind(defaults, "ClusterRole"):
        for people, rule in product(people_of(role), role["rules"]):
            assert rule["apiGroups"] == ["toxicity.dev"]
            (resource,) = rule["resources"]
            granted.setdefault((people, resource), set()).update(rule["verbs"])
    reads = {"get", "list", "watch"}
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    models = {"view": reads, "edit": reads | writes, "admin": reads | writes}
    scales = {"view": {"get"}, "edit": {"get", "update", "patch"}, "admin": {"get", "update", "patch"}}
    assert granted == {
        **{(people, "toxicitymodels"): verbs for people, verbs in models.items()},
        **{(people, "toxicitymodels/scale"): verbs for people, verbs in scales.items()},
    }


def test_names_that_look_like_numbers_stay_words(render: Render) -> None:
    """YAML reads 123 as a number and null as nothing, and the API server takes neither for a name."""
    odd = ["123", "null", "1e3", "on", "0x1f"]
    values = (
        "--set-json",
        f"watchNamespaces={json.dumps(odd)}",
        "--set-string",
        "helmTest.tokenSecretName=77,serviceAccount.name=88",
    )
    documents = render("-f", str(EVERYTHING), *values, release="404", namespace="456")
    assert [binding["metadata"]["namespace"] for binding in bindings_of_operator(documents)] == odd
    found = [(key, value) for document in documents for key, value in _names(document)]
    assert {"456", "404", "77", "88"} <= {value for _, value in found}
    assert [(key, value) for key, value in found if not isinstance(value, str)] == []


def _names(node: Any) -> Iterator[tuple[str, Any]]:
    """Everything that is a name, a namespace, or a label or annotation of an object."""
    if isinstance(node, list):
        for item in node:
            yield from _names(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("name", "namespace") and not isinstance(value, dict):
                yield key, value
            elif (
                key in ("labels", "annotations", "matchLabels")
                and value is not None
                and not {"properties", "additionalProperties"} & value.keys()
            ):
                yield from value.items()
            else:
                yield from _names(value)


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
