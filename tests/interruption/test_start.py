"""The start of the operator's process: what it waits for, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes import client

from support.builders import a_model
from support.interruption.backends import on_server
from support.operator.actors import Api, RequestFailed
from support.operator.api_server import OPERATOR, SYSTEM_NAMESPACE, ApiServer, apply_crd, running_api_server
from support.operator.process import OperatorProcess, running_operator, set_rights
from toxicity_api.base import API_GROUP, KIND, PLURAL

pytestmark = [pytest.mark.interruption, pytest.mark.clock]


def test_operator_that_starts_before_its_crd_waits_for_it(tmp_path: Path, wait_for: Callable[..., object]) -> None:
    with running_api_server(tmp_path / "server") as server:
        crds = client.ApiextensionsV1Api(server.connect())
        crds.delete_custom_resource_definition(f"{PLURAL}.{API_GROUP}")
        with running_operator(server, tmp_path, OPERATOR, {}) as operator:
            wait_for("it to find no CRD", lambda: "cluster_not_ready" in operator.output(), 30)
            apply_crd(server.connect())
            api = on_server(server.connect())
            wait_for("the kind to be served", lambda: _is_created(api), 30)
            wait_for("the training's Job", lambda: api.list("Job"), 60)
            assert operator.process.poll() is None, "the operator ended"
            assert " ERROR " not in operator.output()


def test_operator_without_a_right_says_so_and_ends(
    server: ApiServer, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    kubeconfig = server.operator_kubeconfig("without-pods")
    set_rights(server, "without-pods", without="pods")
    user = f"system:serviceaccount:{SYSTEM_NAMESPACE}:without-pods"
    review = {"spec": {"user": user, "resourceAttributes": {"verb": "list", "resource": "pods"}}}
    judge = client.AuthorizationV1Api(server.connect())
    wait_for("it to be denied", lambda: not judge.create_subject_access_review(review).status.allowed, 30)
    operator = OperatorProcess(kubeconfig, tmp_path / "operator.log", {})
    assert operator.process.wait(60) == 1
    (line,) = [line for line in operator.output().splitlines() if " ERROR " in line]
    assert "cluster_unusable" in line and 'cannot list resource "pods"' in line


def _is_created(api: Api) -> bool:
    try:
        api.create(KIND, {**a_model().raw(), "metadata": {"name": "ru-toxicity"}})
    except RequestFailed as error:
        if error.status not in (404, 429):
            raise
        return False
    return True
