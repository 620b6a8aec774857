"""The operator's process beside an API server that gets ready only after it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes import client

from actors import Api, RequestFailed
from api_server import apply_crd, die_with_parent, free_ports, running_api_server
from builders import a_model
from interruption.backends import on_server
from toxicity_api.base import API_GROUP, KIND, PLURAL
from toxicity_operator.settings import Images

pytestmark = pytest.mark.interruption

IMAGES = {f"IMAGE_{part.upper()}": f"{part}-image:1" for part in Images.__dataclass_fields__}


def test_operator_that_starts_before_its_crd_waits_for_it(tmp_path: Path, wait_for: Callable[..., object]) -> None:
    with running_api_server(tmp_path / "server") as server:
        crds = client.ApiextensionsV1Api(server.connect())
        crds.delete_custom_resource_definition(f"{PLURAL}.{API_GROUP}")
        ports = dict(zip(("LIVENESS_PORT", "METRICS_PORT"), map(str, free_ports(2)), strict=True))
        environment = {**os.environ, **IMAGES, **ports, "KUBECONFIG": str(server.operator_kubeconfig())}
        output = tmp_path / "operator.log"
        with output.open("wb") as log:
            operator = subprocess.Popen(
                [sys.executable, "-m", "toxicity_operator"],
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        try:
            wait_for("it to find no CRD", lambda: "cluster_not_ready" in output.read_text(), 30)
            apply_crd(server.connect())
            api = on_server(server.connect())
            wait_for("the kind to be served", lambda: _is_created(api), 30)
            wait_for("the training's Job", lambda: api.list("Job"), 60)
            assert operator.poll() is None, "the operator ended"
            assert " ERROR " not in output.read_text()
        finally:
            operator.terminate()
            operator.wait(60)


def _is_created(api: Api) -> bool:
    try:
        api.create(KIND, {**a_model().raw(), "metadata": {"name": "ru-toxicity"}})
    except RequestFailed as error:
        if error.status not in (404, 429):
            raise
        return False
    return True
