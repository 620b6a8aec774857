"""Where the figures go: `status.loadTest` of the ToxicityModel, or lines on a stream outside a cluster.

The status has two writers. This one applies only `status.loadTest`, server-side, under its own field manager; the
operator never writes that field. It needs `patch` on toxicitymodels/status, and `get` on its own resource (for the
run before) and on the serving Deployment.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
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
    """The serving Deployment. `cpu_limit_over_request` is None where its container lacks one of them."""

    ready_replicas: int
    cpu_limit_over_request: float | None


class Publisher(Protocol):
    """Where a load test reports to, and whom it asks for the replicas it was served by."""

    def publish(self, status: LoadTestStatus) -> None:
        """Writes the whole load test status in place of the last one. Raises PublishError."""

    def previous(self) -> LoadTestStatus | None:
        """What the run before published; None where there was none or it is not known."""

    def serving_deployment(self) -> ServingDeployment | None:
        """What serves now; None where it is not known."""


class StreamPublisher:
    """Prints each status as one line of JSON: for a service that runs outside a cluster."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def publish(self, status: LoadTestStatus) -> None:
        print(json.dumps(status.to_wire(), ensure_ascii=False), file=self._stream, flush=True)

    def previous(self) -> LoadTestStatus | None:
        return None

    def serving_deployment(self) -> ServingDeployment | None:
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

    def _get(self, group: str, version: str, plural: str, name: str) -> dict[str, Any]:
        """The object; empty, with a line in the log, when it cannot be read."""
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
    """Of two CPU quantities; a limit alone is a request too. None where one is missing or 0, which means none."""
    from kubernetes.utils.quantity import parse_quantity

    if limit is None:
        return None
    most, asked = parse_quantity(limit), parse_quantity(limit if request is None else request)
    return float(most / asked) if most and asked else None


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
