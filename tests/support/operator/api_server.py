"""Runs a real kube-apiserver with etcd on loopback, in a separate folder.

No controllers and no kubelet run; the tests simulate them. Programs, certificates and arguments are those of the
embedded cluster, except that all addresses are loopback and the ports are free ones.
"""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

from support.ports import free_ports
from toxicity_api.crd import build_crd
from toxicity_cluster.build import find_programs
from toxicity_cluster.components import api_server, etcd
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.pki import build_kubeconfig, ensure_pki
from toxicity_cluster.settings import Settings
from toxicity_operator.kube.permissions import LEASE_RULES, RULES

PR_SET_PDEATHSIG = 1
START_SECONDS = 60
STOP_SECONDS = 20
OPERATOR = "toxicity-operator"
SYSTEM_NAMESPACE = "toxicity-system"
OPERATOR_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{OPERATOR}"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{SYSTEM_NAMESPACE}"]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class ApiServer:
    """A running API server: its URL, the administrator's kubeconfig and its audit log."""

    url: str
    kubeconfig: Path
    audit_log: Path
    state: Path

    def connect(self) -> client.ApiClient:
        """A client with the administrator's permissions."""
        settings = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=settings)
        return client.ApiClient(settings)

    def operator_kubeconfig(self, account: str = OPERATOR) -> Path:
        """A kubeconfig of a new ServiceAccount with exactly the operator's permissions."""
        api_client = self.connect()
        core, rbac = client.CoreV1Api(api_client), client.RbacAuthorizationV1Api(api_client)
        if not core.list_namespace(field_selector=f"metadata.name={SYSTEM_NAMESPACE}").items:
            core.create_namespace({"metadata": {"name": SYSTEM_NAMESPACE}})
        core.create_namespaced_service_account(SYSTEM_NAMESPACE, {"metadata": {"name": account}})
        rbac.create_cluster_role({"metadata": {"name": account}, "rules": RULES})
        rbac.create_namespaced_role(SYSTEM_NAMESPACE, {"metadata": {"name": account}, "rules": LEASE_RULES})
        subject = {"kind": "ServiceAccount", "name": account, "namespace": SYSTEM_NAMESPACE}
        bindings = {
            kind: {
                "metadata": {"name": account},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": account},
                "subjects": [subject],
            }
            for kind in ("ClusterRole", "Role")
        }
        rbac.create_cluster_role_binding(bindings["ClusterRole"])
        rbac.create_namespaced_role_binding(SYSTEM_NAMESPACE, bindings["Role"])
        request = {"spec": {"expirationSeconds": 86400}}
        made = core.create_namespaced_service_account_token(account, SYSTEM_NAMESPACE, request)
        path = self.kubeconfig.with_name(f"{account}.kubeconfig")
        document = json.loads(self.kubeconfig.read_text())
        document["users"][0]["user"] = {"token": made.status.token}
        path.write_text(json.dumps(document))
        return path


@contextmanager
def running_api_server(folder: Path) -> Iterator[ApiServer]:
    """Start etcd and the API server in `folder` and apply the CRD. Stop both at the end.

    Raises ClusterError if the programs are not built, and DeadlineExceeded if the server does not become ready.
    """
    given = Settings.from_environment()
    settings = Settings(cache=given.cache, state=folder, sources=given.sources)
    programs = find_programs(settings)
    ensure_pki(settings)
    ports = free_ports(3)
    etcd_url, url = f"http://127.0.0.1:{ports[0]}", f"https://127.0.0.1:{ports[2]}"
    kubeconfig = _write_kubeconfig(settings, url)
    server = ApiServer(url, kubeconfig, folder / "audit.log", folder)
    store = _with_flags(etcd(settings, programs["etcd"]).argv, _etcd_flags(etcd_url, ports[1]))
    front = _with_flags(
        api_server(settings, programs["kube-apiserver"]).argv, _server_flags(server, etcd_url, ports[2])
    )
    with _process(folder, store), _process(folder, front):
        api_client = server.connect()
        wait_until("the API server to be ready", lambda: _is_ready(api_client), START_SECONDS)
        apply_crd(api_client)
        yield server


def keda_stand_in() -> dict[str, Any]:
    """A CRD with the names of KEDA's ScaledObject and any content. `make test-keda` uses KEDA's CRD."""
    return _stand_in("keda.sh", "v1alpha1", "ScaledObject")


def http_route_stand_in() -> dict[str, Any]:
    """A CRD with the names of the Gateway API's HTTPRoute and any content."""
    # the API server refuses CRDs of *.k8s.io groups without the annotation
    approved = {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"}
    crd = _stand_in("gateway.networking.k8s.io", "v1", "HTTPRoute")
    return {**crd, "metadata": {**crd["metadata"], "annotations": approved}}


def _stand_in(group: str, version: str, kind: str) -> dict[str, Any]:
    """A CRD of a third party's kind with any content."""
    singular = kind.lower()
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {
        "name": version, "served": True, "storage": True, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{group}"},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": [served],
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": f"{singular}s", "singular": singular},
        },
    }  # fmt: skip


def apply_crd(api_client: client.ApiClient, crd: dict[str, Any] | None = None) -> None:
    """Apply a CRD, by default that of ToxicityModel, and wait until the API server serves it."""
    crd = crd or build_crd()
    api = client.ApiextensionsV1Api(api_client)
    api.patch_custom_resource_definition(
        crd["metadata"]["name"],
        crd,
        field_manager="toxicity-tests",
        force=True,
        _content_type="application/apply-patch+yaml",
    )

    def served() -> bool:
        found = api.read_custom_resource_definition(crd["metadata"]["name"])
        states = {item.type: item.status for item in found.status.conditions or []}
        assert states.get("NonStructuralSchema") is None
        return states.get("Established") == "True" and states.get("NamesAccepted") == "True"

    wait_until("the CRD to be established", served, START_SECONDS)


def _write_kubeconfig(settings: Settings, url: str) -> Path:
    document: dict[str, Any] = build_kubeconfig(settings.pki, "admin")
    document["clusters"][0]["cluster"]["server"] = url
    path = settings.state / "loopback.kubeconfig"
    path.write_text(json.dumps(document))
    return path


def _etcd_flags(url: str, peer_port: int) -> dict[str, str]:
    peer = f"http://127.0.0.1:{peer_port}"
    return {
        "--listen-client-urls": url,
        "--advertise-client-urls": url,
        "--listen-peer-urls": peer,
        "--initial-advertise-peer-urls": peer,
        "--initial-cluster": f"toxicity={peer}",
    }


def _server_flags(server: ApiServer, etcd_url: str, port: int) -> dict[str, str]:
    """The arguments with loopback addresses, except the advertised address, which may not be loopback."""
    policy = server.state / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return {
        # asks for the right to set finalizers of a child's owner, as some distributions do
        "--enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
        "--etcd-servers": etcd_url,
        "--secure-port": str(port),
        "--bind-address": "127.0.0.1",
        "--endpoint-reconciler-type": "none",
        "--audit-policy-file": str(policy),
        "--audit-log-path": str(server.audit_log),
        "--audit-log-mode": "blocking",
    }


def _with_flags(argv: Sequence[str], flags: Mapping[str, str]) -> list[str]:
    """`argv` with its flags of the same names replaced."""
    kept = [word for word in argv if word.partition("=")[0] not in flags]
    return [*kept, *(f"{name}={value}" for name, value in flags.items())]


def die_with_parent() -> None:
    """Make the kernel kill the new process when its parent exits."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _process(folder: Path, argv: Sequence[str]) -> Iterator[None]:
    """Run a program that logs to a file in `folder`. Terminate it at the end, or kill it."""
    with (folder / f"{Path(argv[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(api_client: client.ApiClient) -> bool:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        answer = api_client.call_api("GET", f"{api_client.configuration.host}/readyz", {}, _request_timeout=5)
        answer.read()
    except (ApiException, HTTPError):
        return False
    return bool(answer.status == 200)
