"""Where the figures go: `status.loadTest` of the ToxicityModel, or lines on a stream outside a cluster.

The status has two writers. This one applies only `status.loadTest`, server-side, under its own field manager; the
operator never writes that field. It needs `patch` on toxicitymodels/status and `get` on the serving Deployment.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol, TextIO

from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.errors import PublishError

FIELD_MANAGER = "toxicity-loadtest"
REQUEST_TIMEOUT_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Publisher(Protocol):
    """Where a load test reports to, and whom it asks for the replicas it was served by."""

    def publish(self, status: LoadTestStatus) -> None:
        """Writes the whole load test status in place of the last one. Raises PublishError."""

    def ready_replicas(self) -> int | None:
        """Ready replicas of the service; None where it is not known."""


class StreamPublisher:
    """Prints each status as one line of JSON: for a service that runs outside a cluster."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def publish(self, status: LoadTestStatus) -> None:
        print(json.dumps(status.to_wire(), ensure_ascii=False), file=self._stream, flush=True)

    def ready_replicas(self) -> int | None:
        return None


class KubernetesPublisher:
    """Applies to the ToxicityModel that the load test was made for."""

    def __init__(self, api_client: Any, config: LoadTestConfig) -> None:
        from kubernetes import client

        self._objects = client.CustomObjectsApi(api_client)
        self._config = config

    def publish(self, status: LoadTestStatus) -> None:
        from kubernetes.client.exceptions import OpenApiException
        from urllib3.exceptions import HTTPError

        try:
            self._objects.patch_namespaced_custom_object_status(
                group=API_GROUP,
                version=API_VERSION,
                namespace=self._config.namespace,
                plural=PLURAL,
                name=self._config.model,
                body=apply_document(self._config, status),
                field_manager=FIELD_MANAGER,
                force=True,
                _content_type="application/apply-patch+yaml",
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
        except (OpenApiException, HTTPError) as error:
            raise PublishError(f"status of {self._config.model} could not be written: {error}") from error

    def ready_replicas(self) -> int | None:
        from kubernetes.client.exceptions import OpenApiException
        from urllib3.exceptions import HTTPError

        name = self._config.serving_deployment
        try:
            deployment: dict[str, Any] = self._objects.get_namespaced_custom_object(
                group="apps",
                version="v1",
                namespace=self._config.namespace,
                plural="deployments",
                name=name,
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
        except (OpenApiException, HTTPError) as error:
            logger.warning("replicas_unknown deployment=%s error=%s", name, error)
            return None
        return int(deployment.get("status", {}).get("readyReplicas", 0))


def in_cluster_publisher(config: LoadTestConfig) -> KubernetesPublisher:
    """A publisher with the pod's own service account. Raises PublishError outside a cluster."""
    from kubernetes import client
    from kubernetes import config as kubernetes_config

    try:
        kubernetes_config.load_incluster_config()
    except kubernetes_config.ConfigException as error:
        raise PublishError(f"no cluster to report to ({error}); outside a cluster use --local") from error
    return KubernetesPublisher(client.ApiClient(), config)


def apply_document(config: LoadTestConfig, status: LoadTestStatus) -> dict[str, Any]:
    """The apply configuration: the object's identity and `status.loadTest`, nothing else."""
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": {"name": config.model, "namespace": config.namespace},
        "status": {"loadTest": status.to_wire()},
    }
