"""The Kubernetes client against an HTTP endpoint that stores applied objects like the API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.errors import PublishError
from toxicity_loadtest.publish import KubernetesPublisher, ServingDeployment, in_cluster_publisher

STATUS_PATH = "/apis/toxicity.dev/v1alpha1/namespaces/default/toxicitymodels/demo/status"
MODEL_PATH = STATUS_PATH.removesuffix("/status")
DEPLOYMENT_PATH = "/apis/apps/v1/namespaces/default/deployments/demo-serve"
APPLY_QUERY = {"fieldManager": ["toxicity-loadtest"], "force": ["true"]}


class ApiEndpoint(ThreadingHTTPServer):
    """Accepts the status of one object by server-side apply, refuses other requests and records all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ApiHandler)
        self.applied: list[dict[str, Any]] = []
        self.objects: dict[str, dict[str, Any]] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class ApiHandler(BaseHTTPRequestHandler):
    server: ApiEndpoint

    def do_PATCH(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = urlsplit(self.path)
        if url.path != STATUS_PATH or parse_qs(url.query) != APPLY_QUERY:
            return self._send(404, {"reason": "NotFound"})
        if self.headers["Content-Type"] != "application/apply-patch+yaml":
            return self._send(415, {"reason": "UnsupportedMediaType"})
        self.server.applied.append(document)
        self._send(200, document)

    def do_GET(self) -> None:
        found = self.server.objects.get(self.path)
        self._send(404 if found is None else 200, found or {"reason": "NotFound"})

    def _send(self, code: int, document: object) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[ApiEndpoint]:
    with ApiEndpoint() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield api
        api.shutdown()
        thread.join()


def a_config(model: str = "demo") -> LoadTestConfig:
    return LoadTestConfig(
        model=model,
        namespace="default",
        fingerprint="0123abcd",
        url="http://demo-serve",
        texts_path=Path("/artifacts/test.csv"),
        serving_deployment="demo-serve",
        load_test=LoadTestSpec(),
    )


def a_publisher(api: ApiEndpoint, config: LoadTestConfig) -> KubernetesPublisher:
    from kubernetes import client

    return KubernetesPublisher(client.ApiClient(client.Configuration(host=api.url)), config)


def a_status() -> LoadTestStatus:
    bucket = BucketResult(name="1-100", requests=300, failures=1, actual_rps=9.97, p50_seconds=0.1)
    return LoadTestStatus(
        fingerprint="0123abcd", run_id="1", state="Running", users=16, requested_rps=10.0, buckets=[bucket]
    )


def test_publish_applies_the_load_test_and_no_other_field(api: ApiEndpoint) -> None:
    a_publisher(api, a_config()).publish(a_status())
    assert api.applied == [
        {
            "apiVersion": "toxicity.dev/v1alpha1",
            "kind": "ToxicityModel",
            "metadata": {"name": "demo", "namespace": "default"},
            "status": {
                "loadTest": {
                    "fingerprint": "0123abcd",
                    "runId": "1",
                    "state": "Running",
                    "users": 16,
                    "requestedRps": 10.0,
                    "warmupRequests": 0,
                    "buckets": [
                        {"name": "1-100", "requests": 300, "failures": 1, "actualRps": 9.97, "p50Seconds": 0.1}
                    ],
                }
            },
        }
    ]


def test_publish_names_the_object_when_it_is_refused(api: ApiEndpoint) -> None:
    with pytest.raises(PublishError, match=r"cannot write status.loadTest of the ToxicityModel gone: .*404"):
        a_publisher(api, a_config("gone")).publish(a_status())
    assert api.applied == []


def a_deployment(ready: int | None, **resources: dict[str, str]) -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"name": "serve", "resources": resources}]}}}
    return {"spec": spec, "status": {} if ready is None else {"readyReplicas": ready}}


@pytest.mark.parametrize(
    ("deployment", "serving_deployment"),
    [
        (a_deployment(2, limits={"cpu": "1500m"}, requests={"cpu": "1"}), ServingDeployment(2, 1.5)),
        (a_deployment(1, limits={"cpu": "2"}), ServingDeployment(1, 1.0)),
        (a_deployment(None, requests={"cpu": "1"}), ServingDeployment(0, None)),
        (None, None),
    ],
)
def test_served_by_is_the_serving_deployment(
    api: ApiEndpoint, deployment: dict[str, Any] | None, serving_deployment: ServingDeployment | None
) -> None:
    if deployment is not None:
        api.objects[DEPLOYMENT_PATH] = deployment
    assert a_publisher(api, a_config()).serving_deployment() == serving_deployment


@pytest.mark.parametrize("limit", [None, "0", "500m"])
@pytest.mark.parametrize("request_", [None, "0", "500m"])
def test_ratio_of_cpu_is_not_known_where_there_is_nothing_to_divide(
    api: ApiEndpoint, limit: str | None, request_: str | None
) -> None:
    quantities = {"limits": limit, "requests": request_}
    resources = {kind: {"cpu": value} for kind, value in quantities.items() if value is not None}
    api.objects[DEPLOYMENT_PATH] = a_deployment(1, **resources)
    known = limit == "500m" and request_ != "0"
    assert a_publisher(api, a_config()).serving_deployment() == ServingDeployment(1, 1.0 if known else None)


METRICS_PATH = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dserve%2Cmodel%3Ddemo"


def test_cpu_of_the_serving_pods_is_the_sum_of_their_containers(api: ApiEndpoint) -> None:
    publisher = a_publisher(api, a_config())
    assert publisher.pod_cpu() == {}, "no Deployment yet"
    deployment = a_deployment(2)
    deployment["spec"]["selector"] = {"matchLabels": {"app": "serve", "model": "demo"}}
    api.objects[DEPLOYMENT_PATH] = deployment
    usage = {"serve-a": ["1500m", "20m"], "serve-b": ["730123456n"]}
    items = [
        {"metadata": {"name": pod}, "containers": [{"usage": {"cpu": each}} for each in used]}
        for pod, used in usage.items()
    ]
    api.objects[METRICS_PATH] = {"items": items}
    assert publisher.pod_cpu() == pytest.approx({"serve-a": 1.52, "serve-b": 0.730123456})


def test_cluster_without_metrics_is_asked_once(api: ApiEndpoint) -> None:
    deployment = a_deployment(1)
    deployment["spec"]["selector"] = {"matchLabels": {"app": "serve", "model": "demo"}}
    api.objects[DEPLOYMENT_PATH] = deployment
    publisher = a_publisher(api, a_config())
    assert publisher.pod_cpu() == {}
    api.objects[METRICS_PATH] = {"items": [{"metadata": {"name": "late"}, "containers": []}]}
    assert publisher.pod_cpu() == {}


def test_previous_is_what_the_run_before_wrote(api: ApiEndpoint) -> None:
    publisher = a_publisher(api, a_config())
    assert publisher.previous() is None
    api.objects[MODEL_PATH] = {"metadata": {"name": "demo"}}
    assert publisher.previous() is None
    api.objects[MODEL_PATH] = {"status": {"loadTest": a_status().to_wire()}}
    assert publisher.previous() == a_status()


def test_previous_figures_of_another_shape_are_no_obstacle(api: ApiEndpoint) -> None:
    api.objects[MODEL_PATH] = {"status": {"loadTest": {"state": "Complete"}}}
    assert a_publisher(api, a_config()).previous() is None


def test_outside_a_cluster_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(PublishError, match="outside a cluster use --local"):
        in_cluster_publisher(a_config())
