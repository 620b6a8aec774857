"""The chart of the previous version, upgraded to this one on a real API server, then uninstalled.

Nothing runs in it but the API server, so helm does not wait: what is looked at is what it wrote.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import pytest
import yaml
from kubernetes import client

from support.chart import CHART, NAMESPACE, RELEASE, ROOT, image_reference, load_values
from support.operator.actors import Api
from support.operator.api_server import ApiServer, running_api_server
from toxicity_api.base import KIND
from toxicity_api.crd import build_crd
from toxicity_cluster.commands import run
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.errors import CommandFailed
from toxicity_operator.model import read_model

pytestmark = pytest.mark.api

PREVIOUS = "a964c5e"
"""The commit of the version before; move it on when a version is released."""

CRD = build_crd()
CRD_NAME = CRD["metadata"]["name"]
SAMPLE = "manifests/samples/cpu.yaml"
MODELS = "moderation"
GONE_SECONDS = 60


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart and the samples of the previous version."""
    if shutil.which("git") is None:
        pytest.fail("git is not on PATH: the chart of the previous version comes from the history")
    command = ["git", "-C", str(ROOT), "archive", PREVIOUS, "helm/toxicity-operator", SAMPLE]
    found = run_process(command, capture_output=True, check=False)
    if found.returncode != 0:
        said = found.stderr.decode().strip()
        pytest.fail(f"commit {PREVIOUS} is not in this checkout: run `git fetch --unshallow` ({said})")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Helm:
    """helm with the administrator's rights on the API server."""

    def __init__(self, program: str, server: ApiServer, release: str = RELEASE) -> None:
        self._program, self._release = program, release
        self._options = ["-n", NAMESPACE, "--kubeconfig", str(server.kubeconfig)]

    def install(self, chart: Path, values: dict[str, Any]) -> str:
        """`helm upgrade --install` without waiting; what it prints."""
        command = [self._program, "upgrade", "--install", self._release, str(chart), *self._options, "-f", "-"]
        return run(command, input=json.dumps(values))

    def uninstall(self) -> None:
        run([self._program, "uninstall", self._release, *self._options])


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the two namespaces and without the CRD, which the chart brings."""
    with running_api_server(tmp_path_factory.mktemp("bare")) as found:
        api_client = found.connect()
        extensions, core = client.ApiextensionsV1Api(api_client), client.CoreV1Api(api_client)
        extensions.delete_custom_resource_definition(CRD_NAME)
        wait_until(
            "the CRD to be gone", lambda: not extensions.list_custom_resource_definition().items, GONE_SECONDS
        )
        for name in (NAMESPACE, MODELS):
            core.create_namespace({"metadata": {"name": name}})
        yield found


def served_schema(server: ApiServer) -> set[str]:
    """The paths of all fields that the API server knows of a ToxicityModel."""
    crd = (
        client.ApiextensionsV1Api(server.connect())
        .read_custom_resource_definition(CRD_NAME)
        .to_dict(serialize=True)
    )
    return fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def fields(schema: Any, path: str = "") -> set[str]:
    inner = [(f"{path}.{name}", part) for name, part in (schema.get("properties") or {}).items()]
    inner += [(f"{path}[]", schema[key]) for key in ("items",) if isinstance(schema.get(key), dict)]
    return {found for name, part in inner for found in {name, *fields(part, name)}}


def images_of(values: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The values with a tag of their own for every image."""
    return {part: {**image, "tag": f"{part}-upgraded"} for part, image in values["images"].items()}


def deployment(server: ApiServer) -> Any:
    return client.AppsV1Api(server.connect()).read_namespaced_deployment(RELEASE, NAMESPACE)


def is_served(api: Api) -> bool:
    """Whether the API server answers for ToxicityModels: some time after their CRD is there."""
    kinds = api.request("GET", "/apis")["groups"]
    return any(group["name"] == CRD["spec"]["group"] for group in kinds)


@pytest.fixture(scope="module")
def upgraded(helm: str, previous: Path, bare_server: ApiServer) -> dict[str, Any]:
    """Installs the previous version, applies a resource of its own, upgrades; what was there before and after."""
    program, api = Helm(helm, bare_server), Api(bare_server.connect(), MODELS)
    program.install(previous / "helm" / "toxicity-operator", {})
    wait_until("the API server to serve ToxicityModels", lambda: is_served(api), GONE_SECONDS)
    sample = yaml.safe_load((previous / SAMPLE).read_text(encoding="utf-8"))
    before = {
        "fields": served_schema(bare_server),
        "model": api.create(KIND, sample),
        "deployment": deployment(bare_server),
    }
    said = program.install(CHART, {"images": images_of(load_values(CHART / "values.yaml"))})
    return {**before, "said": said, "name": sample["metadata"]["name"]}


def test_upgrade_brings_the_new_schema(upgraded: dict[str, Any], bare_server: ApiServer) -> None:
    wanted = fields(CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    assert wanted - upgraded["fields"], "the previous version has the same schema: set PREVIOUS to an earlier one"
    assert served_schema(bare_server) == wanted


def test_resource_of_before_is_still_valid_and_understood(
    upgraded: dict[str, Any], bare_server: ApiServer
) -> None:
    api, name, created = Api(bare_server.connect(), MODELS), upgraded["name"], upgraded["model"]
    found = api.get(KIND, name)
    assert found is not None
    assert found["metadata"]["uid"] == created["metadata"]["uid"]
    for path in leaf_paths(created["spec"]):
        assert value_at(found["spec"], path) == value_at(created["spec"], path)
    assert read_model(found).name == name
    changed = api.merge(KIND, name, {"spec": {"training": {"epochs": 2}}}, fieldValidation="Strict")
    assert changed["spec"]["training"]["epochs"] == 2


def leaf_paths(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(node, dict):
        return [path]
    return [found for key, value in node.items() for found in leaf_paths(value, (*path, key))]


def value_at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def test_upgrade_changes_the_operator_in_place(upgraded: dict[str, Any], bare_server: ApiServer) -> None:
    before, after = upgraded["deployment"], deployment(bare_server)
    assert after.metadata.uid == before.metadata.uid
    assert after.spec.selector.to_dict() == before.spec.selector.to_dict()
    values = load_values(CHART / "values.yaml")
    (container,) = after.spec.template.spec.containers
    variables = {item.name: item.value for item in container.env}
    images = {part: image_reference(image) for part, image in images_of(values).items()}
    assert container.image == images["operator"]
    assert {variables[name] for name in variables if name.startswith("IMAGE_")} == set(images.values()) - {
        container.image
    }


def test_helm_says_what_to_do_next(upgraded: dict[str, Any]) -> None:
    commands = [line.strip() for line in upgraded["said"].splitlines() if line.startswith("  ")]
    assert [command.split()[0] for command in commands] == ["kubectl", "kubectl", "kubectl", "curl"]
    assert f"apply -f {SAMPLE}" in commands[0]
    sample = load_values(ROOT / SAMPLE)
    assert f"get toxicitymodel {sample['metadata']['name']} -w" in commands[1]
    assert f"service/{sample['metadata']['name']}-serve" in commands[2]
    assert "<no value>" not in upgraded["said"]


def test_uninstall_keeps_the_crd_and_the_resource(
    upgraded: dict[str, Any], bare_server: ApiServer, helm: str
) -> None:
    program = Helm(helm, bare_server)
    program.uninstall()
    api_client = bare_server.connect()
    left = client.AppsV1Api(api_client).list_namespaced_deployment(NAMESPACE).items
    assert left == []
    roles = client.RbacAuthorizationV1Api(api_client)
    selector = f"app.kubernetes.io/instance={RELEASE}"
    assert roles.list_cluster_role(label_selector=selector).items == []
    assert roles.list_cluster_role_binding(label_selector=selector).items == []
    assert (
        client.ApiextensionsV1Api(api_client).read_custom_resource_definition(CRD_NAME).metadata.name == CRD_NAME
    )
    found = Api(api_client, MODELS).get(KIND, upgraded["name"])
    assert found is not None
    assert found["metadata"]["uid"] == upgraded["model"]["metadata"]["uid"]
    program.install(CHART, {})
    again = Api(api_client, MODELS).get(KIND, upgraded["name"])
    assert again is not None
    assert again["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


def test_number_of_pods_changes_the_strategy_and_back(
    upgraded: dict[str, Any], bare_server: ApiServer, helm: str
) -> None:
    program, found = Helm(helm, bare_server), []
    for replicas in (1, 2, 1):
        program.install(CHART, {"operator": {"replicas": replicas}})
        spec = deployment(bare_server).spec
        found.append((spec.replicas, spec.strategy.type, spec.strategy.rolling_update is not None))
    assert found == [(1, "Recreate", False), (2, "RollingUpdate", True), (1, "Recreate", False)]


def test_second_release_stands_beside_the_first_without_the_crd(
    upgraded: dict[str, Any], bare_server: ApiServer, helm: str
) -> None:
    second = Helm(helm, bare_server, "fast")
    with pytest.raises(CommandFailed, match=CRD_NAME):
        second.install(CHART, {"operatorClass": "fast"})
    second.install(CHART, {"operatorClass": "fast", "crds": {"enabled": False}})
    api_client = bare_server.connect()
    found = client.AppsV1Api(api_client).list_namespaced_deployment(NAMESPACE).items
    assert [item.metadata.name for item in found] == ["fast-toxicity-operator", RELEASE]
    second.uninstall()
    roles = client.RbacAuthorizationV1Api(api_client)
    for listed in (roles.list_cluster_role, roles.list_cluster_role_binding):
        assert listed(label_selector=f"app.kubernetes.io/instance={RELEASE}").items
        assert listed(label_selector="app.kubernetes.io/instance=fast").items == []
