"""What the API tests share: a client, the CRD in place, a namespace of each test's own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from support.builders import SETTINGS, ModelBuilder, a_model
from support.operator.api_server import apply_crd
from toxicity_api.base import API_GROUP, API_VERSION, PLURAL
from toxicity_operator.kube.client import KubernetesCluster
from toxicity_operator.settings import OperatorSettings

NOWHERE = {"toxicity.dev/test": "no-such-node"}


@pytest.fixture(scope="session")
def connect(kubeconfig: Path) -> Callable[..., client.ApiClient]:
    """connect(user=None): a client, as another user if one is named."""

    def build(user: str | None = None) -> client.ApiClient:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
        made = client.ApiClient(settings)
        if user:
            made.set_default_header("Impersonate-User", user)
        return made

    return build


@pytest.fixture(scope="session")
def api_client(connect: Callable[..., client.ApiClient]) -> Any:
    """A client of a cluster that serves ToxicityModels as this checkout defines them."""
    made = connect()
    apply_crd(made)
    return made


@pytest.fixture
def namespace(api_client: client.ApiClient) -> Iterator[str]:
    """A namespace of this test alone."""
    name = f"api-{secrets.token_hex(4)}"
    core = client.CoreV1Api(api_client)
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def settings(api_client: client.ApiClient) -> OperatorSettings:
    """Those of an operator that runs in the cluster, so that both want the same; else made-up ones."""
    found = client.AppsV1Api(api_client).list_deployment_for_all_namespaces(
        label_selector="app.kubernetes.io/name=toxicity-operator"
    )
    for deployment in found.items:
        env = {item.name: item.value or "" for item in deployment.spec.template.spec.containers[0].env}
        return OperatorSettings.from_environment(env | {"POD_NAME": "tests"})  # which the kubelet fills in
    return SETTINGS


@pytest.fixture
def cluster(api_client: client.ApiClient) -> KubernetesCluster:
    return KubernetesCluster(api_client)


@pytest.fixture
def create(api_client: client.ApiClient, namespace: str) -> Callable[[ModelBuilder], dict[str, Any]]:
    """create(builder): the resource as the API server stored it; unknown fields are refused, as kubectl does."""

    def post(builder: ModelBuilder) -> dict[str, Any]:
        raw = builder.raw()
        raw["metadata"] = {"name": builder.name}
        api = client.CustomObjectsApi(api_client)
        made: dict[str, Any] = api.create_namespaced_custom_object(
            API_GROUP, API_VERSION, namespace, PLURAL, raw, field_validation="Strict"
        )
        return made

    return post


@pytest.fixture
def read(api_client: client.ApiClient, namespace: str) -> Callable[[], dict[str, Any]]:
    """read(): the resource as it is now."""

    def get() -> dict[str, Any]:
        api = client.CustomObjectsApi(api_client)
        found: dict[str, Any] = api.get_namespaced_custom_object(
            API_GROUP, API_VERSION, namespace, PLURAL, "ru-toxicity"
        )
        return found

    return get


@pytest.fixture
def parked() -> ModelBuilder:
    """A model that no operator looks after and whose pods no node takes: only the test changes anything."""
    model = a_model().with_spec("operatorClass", "tests")
    for stage in ("training", "quantization", "serving", "loadTest"):
        model = model.with_spec(f"{stage}.nodeSelector", NOWHERE)
    return model
