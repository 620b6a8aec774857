"""The API servers on which a schedule can run."""

from __future__ import annotations

import secrets

from kubernetes import client

from support.interruption.memory_api import MemoryApi
from support.operator.actors import Api


def in_memory(namespace: str = "default") -> Api:
    """A new in-memory API server behind the real client."""
    settings = client.Configuration()
    settings.host = "http://in-memory"
    api_client = client.ApiClient(settings)
    api_client.rest_client.pool_manager = MemoryApi()
    return _with_account(Api(api_client, namespace))


def on_server(api_client: client.ApiClient) -> Api:
    """A new namespace of a real API server."""
    name = f"schedule-{secrets.token_hex(4)}"
    client.CoreV1Api(api_client).create_namespace({"metadata": {"name": name}})
    return _with_account(Api(api_client, name))


def _with_account(api: Api) -> Api:
    """Create the default ServiceAccount, which no controller creates here."""
    api.create("ServiceAccount", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    return api
