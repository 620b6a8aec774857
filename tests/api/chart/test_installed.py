"""The operator's process with what `helm install` grants it, on a real API server: from the data to the load test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from kubernetes import client

from support.builders import a_model
from support.chart import CHART, RELEASE, Render, environment, operator_container
from support.operator.actors import Api, finish_job, is_finished, is_rolled_out, roll_out, start_pod
from support.operator.api_server import OPERATOR_USER, SYSTEM_NAMESPACE, ApiServer, running_api_server
from support.ports import free_ports
from toxicity_api.base import KIND, PLURAL
from toxicity_cluster.commands import run
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_operator import names

pytestmark = pytest.mark.api

NAME, NAMESPACE = "ru-toxicity", "watched"
READY_SECONDS = 120
FORBIDDEN = 403


@pytest.fixture(params=[(), (NAMESPACE,)], ids=["cluster-wide", "in-one-namespace"])
def watched(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The namespaces that the operator is to look after; none means all."""
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def installed(helm: str, tmp_path: Path, watched: tuple[str, ...]) -> Iterator[ApiServer]:
    """An API server on which helm has installed the chart, without the CRD, which is there already."""
    with running_api_server(tmp_path / "server") as found:
        core = client.CoreV1Api(found.connect())
        for namespace in (SYSTEM_NAMESPACE, NAMESPACE):
            core.create_namespace({"metadata": {"name": namespace}})
        # the pods' account, which a controller would make
        core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "default"}})
        options = ["-n", SYSTEM_NAMESPACE, "--kubeconfig", str(found.kubeconfig), "--set", "crds.enabled=false"]
        run(
            [
                helm,
                "install",
                RELEASE,
                str(CHART),
                *options,
                "--set-json",
                f"watchNamespaces={json.dumps(watched)}",
            ]
        )
        yield found


@contextmanager
def running_operator(server: ApiServer, variables: dict[str, str]) -> Iterator[Callable[[str, str], str]]:
    """`python -m toxicity_operator` with its ServiceAccount's rights and the chart's environment, in a pod of IPv6.

    What is yielded reads a page: of the port that a variable names, at a path.
    """
    token = client.CoreV1Api(server.connect()).create_namespaced_service_account_token(
        RELEASE, SYSTEM_NAMESPACE, {"spec": {"expirationSeconds": 3600}}
    )
    document = json.loads(server.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token.status.token}
    kubeconfig, log = server.state / "operator.kubeconfig", server.state / "operator.log"
    kubeconfig.write_text(json.dumps(document))
    ports = dict(zip(("LIVENESS_PORT", "METRICS_PORT"), map(str, free_ports(2)), strict=True))
    given = {**os.environ, **variables, **ports, "POD_IP": "fd00::7", "KUBECONFIG": str(kubeconfig)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "toxicity_operator"], env=given, stdout=output, stderr=output
        )

    def read(port: str, path: str) -> str:
        with urlopen(f"http://[::1]:{ports[port]}/{path}", timeout=10) as answer:
            found: str = answer.read().decode()
        return found

    try:
        yield read
    finally:
        process.terminate()
        process.wait(60)
        print(log.read_text()[-4000:])


def play(api: Api) -> bool:
    """One round of what controllers and kubelets do; whether the resource is Ready."""
    for job in api.list("Job"):
        if not is_finished(job):
            start_pod(api, job)
            finish_job(api, job)
    for deployment in api.list("Deployment"):
        if not is_rolled_out(deployment):
            roll_out(api, deployment)
    model = api.get(KIND, NAME)
    return model is not None and model.get("status", {}).get("stage") == "Ready"


def audited(server: ApiServer) -> list[dict[str, Any]]:
    """What the operator's user asked so far."""
    return [json.loads(line) for line in server.audit_log.read_text().splitlines()]


def test_installed_rights_suffice_from_the_data_to_the_load_test(
    installed: ApiServer, render: Render, watched: tuple[str, ...]
) -> None:
    api = Api(installed.connect(), NAMESPACE)
    raw = a_model().with_spec("serving.autoscaling", {"maxReplicas": 2}).raw() | {"metadata": {"name": NAME}}
    api.create(KIND, raw)
    documents = render("--set-json", f"watchNamespaces={json.dumps(watched)}")
    with running_operator(
        installed, environment(operator_container(documents)) | {"POD_NAME": "operator-0"}
    ) as read:
        wait_until("the resource to be Ready", lambda: play(api), READY_SECONDS, 0.2)
        api.merge(KIND, NAME, {"spec": {"serving": {"autoscaling": None}}})
        scaler = names.serving_name(NAME)
        wait_until(
            "the autoscaler to be gone",
            lambda: play(api) and api.get("HorizontalPodAutoscaler", scaler) is None,
            READY_SECONDS,
            0.2,
        )
        page = read("METRICS_PORT", "metrics")
        assert json.loads(read("LIVENESS_PORT", "healthz")) == {"operator": True}
    assert "toxicity_operator_resources 1.0" in page
    assert re.search(r'reconciles_total\{outcome="changed"\} [1-9]', page)
    requests = audited(installed)
    assert {request["user"]["username"] for request in requests} == {OPERATOR_USER}
    assert [request for request in requests if request["responseStatus"]["code"] == FORBIDDEN] == []
    asked = {request["objectRef"]["resource"] for request in requests if "objectRef" in request}
    assert {PLURAL, "jobs", "deployments", "roles", "events"} <= asked
    outside = {r["requestURI"] for r in requests if "objectRef" in r and "namespace" not in r["objectRef"]}
    assert bool(outside) is not bool(watched), "a namespaced operator asks for nothing outside its namespaces"
    assert not [uri for uri in outside if "customresourcedefinitions" in uri or "/api/v1/namespaces" in uri]
