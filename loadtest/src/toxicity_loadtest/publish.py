"""Publish the figures to `status.loadTest` of the ToxicityModel, or to a stream outside a cluster.

The status has two writers. The load test applies only `status.loadTest`, server-side and under its own field manager.
The operator never writes that field. The load test needs `patch` on toxicitymodels/status, and `get` on its
ToxicityModel, for the previous run, and on the serving Deployment, and `list` on the metrics of pods.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from pydantic import ValidationError

from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL, read_document
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.errors import PublishError

FIELD_MANAGER = "toxicity-loadtest"
REQUEST_TIMEOUT_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServingDeployment:
    """State of the serving Deployment. `cpu_limit_over_request` is None without a CPU limit or request."""

    ready_replicas: int
    cpu_limit_over_request: float | None


class Publisher(Protocol):
    """Writes the status of a load test, and reads the previous status and the serving Deployment."""

    def publish(self, status: LoadTestStatus) -> None:
        """Replace the whole status of the load test. Raises PublishError."""

    def previous(self) -> LoadTestStatus | None:
        """Return the status of the previous run; None without one."""

    def serving_deployment(self) -> ServingDeployment | None:
        """Return the state of the serving Deployment; None if unknown."""

    def pod_cpu(self) -> dict[str, float]:
        """Return the CPU use of each serving pod, in cores; empty if unknown."""


class StreamPublisher:
    """Prints each status as one line of JSON, for a service outside a cluster.

    `previous` is the status of the run to compare with. `replicas` is the number of replicas that serve.
    """

    def __init__(
        self, stream: TextIO, previous: LoadTestStatus | None = None, replicas: int | None = None
    ) -> None:
        self._stream, self._previous, self._replicas = stream, previous, replicas

    def publish(self, status: LoadTestStatus) -> None:
        print(json.dumps(status.to_wire(), ensure_ascii=False), file=self._stream, flush=True)

    def previous(self) -> LoadTestStatus | None:
        return self._previous

    def serving_deployment(self) -> ServingDeployment | None:
        return None if self._replicas is None else ServingDeployment(self._replicas, None)

    def pod_cpu(self) -> dict[str, float]:
        return {}


class KubernetesPublisher:
    """Applies the status to the ToxicityModel of the load test."""

    def __init__(self, api_client: Any, config: LoadTestConfig) -> None:
        from kubernetes import client

        self._objects = client.CustomObjectsApi(api_client)
        self._config = config
        self._has_metrics = True

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
            raise PublishError(
                f"cannot write status.loadTest of the ToxicityModel {self._config.model}: {error}"
            ) from error

    def previous(self) -> LoadTestStatus | None:
        document = self._get(API_GROUP, API_VERSION, PLURAL, self._config.model)
        figures = document.get("status", {}).get("loadTest")
        try:
            return read_document(LoadTestStatus, figures, "status.loadTest") if figures else None
        except ValidationError as error:
            logger.warning("previous_figures_unreadable error=%s", error)
            return None

    def serving_deployment(self) -> ServingDeployment | None:
        deployment = self._get("apps", "v1", "deployments", self._config.serving_deployment)
        if not deployment:
            return None
        containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [{}])
        resources = containers[0].get("resources", {})
        limit, request = (resources.get(kind, {}).get("cpu") for kind in ("limits", "requests"))
        ready = int(deployment.get("status", {}).get("readyReplicas", 0))
        return ServingDeployment(ready, _ratio(limit, request))

    def pod_cpu(self) -> dict[str, float]:
        """Return the CPU use that the metrics API measured last. Without metrics-server it is unknown."""
        from kubernetes.client.exceptions import OpenApiException
        from kubernetes.utils.quantity import parse_quantity
        from urllib3.exceptions import HTTPError

        deployment = self._get("apps", "v1", "deployments", self._config.serving_deployment)
        labels = deployment.get("spec", {}).get("selector", {}).get("matchLabels", {})
        if not labels or not self._has_metrics:
            return {}
        try:
            found = self._objects.list_namespaced_custom_object(
                group="metrics.k8s.io",
                version="v1beta1",
                namespace=self._config.namespace,
                plural="pods",
                label_selector=",".join(f"{name}={value}" for name, value in labels.items()),
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
        except (OpenApiException, HTTPError) as error:
            logger.warning("pod_metrics_unreadable error=%s", error)
            self._has_metrics = False
            return {}
        return {
            pod["metadata"]["name"]: float(sum(parse_quantity(part["usage"]["cpu"]) for part in pod["containers"]))
            for pod in found["items"]
        }

    def _get(self, group: str, version: str, plural: str, name: str) -> dict[str, Any]:
        """Get an object. If it cannot be read, log a warning and return an empty one."""
        from kubernetes.client.exceptions import OpenApiException
        from urllib3.exceptions import HTTPError

        try:
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(
                group=group,
                version=version,
                namespace=self._config.namespace,
                plural=plural,
                name=name,
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
        except (OpenApiException, HTTPError) as error:
            logger.warning("object_unreadable plural=%s name=%s error=%s", plural, name, error)
            return {}
        return found


def _ratio(limit: object, request: object) -> float | None:
    """Return limit / request of two CPU quantities. A missing request equals the limit. None without a limit."""
    from kubernetes.utils.quantity import parse_quantity

    if limit is None:
        return None
    most, asked = parse_quantity(limit), parse_quantity(limit if request is None else request)
    return float(most / asked) if most and asked else None


def local_publisher(stream: TextIO, previous: Path | None, replicas: int | None) -> StreamPublisher:
    """Create a publisher for a service outside a cluster. Raises PublishError if `previous` cannot be read."""
    if previous is None:
        return StreamPublisher(stream, replicas=replicas)
    try:
        status = read_document(LoadTestStatus, previous.read_text(encoding="utf-8"), "the previous status")
    except (OSError, ValueError) as error:
        raise PublishError(f"cannot read the previous status from {previous}: {error}") from error
    return StreamPublisher(stream, status, replicas)


def in_cluster_publisher(config: LoadTestConfig) -> KubernetesPublisher:
    """Create a publisher with the pod's ServiceAccount. Raises PublishError outside a cluster."""
    from kubernetes import client
    from kubernetes import config as kubernetes_config

    try:
        kubernetes_config.load_incluster_config()
    except kubernetes_config.ConfigException as error:
        raise PublishError(f"cannot find the cluster ({error}): outside a cluster use --local") from error
    return KubernetesPublisher(client.ApiClient(), config)


def apply_document(config: LoadTestConfig, status: LoadTestStatus) -> dict[str, Any]:
    """Build the apply configuration: the identity of the object and `status.loadTest` only."""
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": {"name": config.model, "namespace": config.namespace},
        "status": {"loadTest": status.to_wire()},
    }
