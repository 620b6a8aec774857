"""Requests to the API server with timeouts. Failures raise ClusterError."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError

from toxicity_api.types import Raw
from toxicity_operator.errors import NOT_FOUND, ClusterError

TIMEOUT_SECONDS = (5, 30)

POOL_SIZE = 32

Body = Raw | Sequence[Raw] | None
"""A request body. A JSON patch is a list."""


def connect(retries: int | None = None) -> client.ApiClient:
    """Create a client from the pod's ServiceAccount, or else from KUBECONFIG. Raises ClusterError if there is neither.

    `retries`: number of retries of a request without a response; None means urllib3's default of three.
    """
    settings = client.Configuration()
    settings.retries = retries
    try:
        config.load_incluster_config(settings)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=settings)
        except config.ConfigException as error:
            raise ClusterError(
                f"no cluster configuration: use a pod's ServiceAccount or KUBECONFIG: {error}", 0
            ) from error
    settings.connection_pool_maxsize = POOL_SIZE
    return client.ApiClient(settings)


class Connection:
    """Blocking requests. Call it from a thread."""

    def __init__(self, api_client: client.ApiClient) -> None:
        # only raw requests of the dynamic client are used; its discovery would read every API group
        self._client = DynamicClient(api_client, discoverer=lambda *_: None)

    def _request(self, method: str, path: str, body: Body = None, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._send(method, path, body, **options))
        return answer

    def _get_or_none(self, path: str, **options: Any) -> dict[str, Any] | None:
        """The object at the path; None if the API server answers 404."""
        try:
            return self._request("get", path, **options)
        except ClusterError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _send(self, method: str, path: str, body: Body = None, **options: Any) -> bytes:
        try:
            answer: bytes = self._open(method, path, body, **options).data
        except HTTPError as error:
            raise ClusterError(f"{method} {path}: {error}", 0) from error
        return answer

    def _open(self, method: str, path: str, body: Body = None, **options: Any) -> Any:
        """Send a request and return the response, whose body is not read yet."""
        # the client appends to its default lists, so new ones are passed each time
        parameters = {"query_params": [], "header_params": {}, "_request_timeout": TIMEOUT_SECONDS, **options}
        try:
            return self._client.request(method, path, body, serialize=False, **parameters)
        except ApiException as error:
            raise ClusterError(f"{method} {path}: {_explanation(error)}", error.status or 0) from error
        except HTTPError as error:
            raise ClusterError(f"{method} {path}: {error}", 0) from error


def _explanation(error: ApiException) -> str:
    """The API server's message, which names the invalid field or the missing permission."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
