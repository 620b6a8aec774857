"""Prometheus and KEDA on the embedded cluster, for autoscaling by requests in flight: `up --keda`, `build --keda`.

Only these commands build or start them; `up` repairs a cluster that has them. They run as processes on the node.
Prometheus scrapes the serving pods. KEDA's operator queries it and creates the autoscalers. KEDA's adapter serves the
metric to them as the API group external.metrics.k8s.io.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

import yaml

from toxicity_cluster.addons import (
    NAMESPACE,
    READ,
    Manifest,
    api_service,
    apply_objects,
    authentication,
    binding,
    cluster_role,
    node_service,
    rbac,
    rule,
)
from toxicity_cluster.build import KEDA_MODULE, OPTIONAL_PROGRAMS, build_programs
from toxicity_cluster.commands import run
from toxicity_cluster.kubectl import kubectl
from toxicity_cluster.processes import ProcessSpec, ensure_running, recorded_names, stop
from toxicity_cluster.progress import Progress
from toxicity_cluster.ready import PROBE_SECONDS, Check, asked, get, wait_until
from toxicity_cluster.settings import NODE_ADDRESS, Settings
from toxicity_cluster.toolchain import ensure_go, go_environment

PROMETHEUS_PORT, ADAPTER_PORT = 9090, 4444
PROMETHEUS_URL = f"http://{NODE_ADDRESS}:{PROMETHEUS_PORT}"
GRPC_ADDRESS = "127.0.0.1:9666"
SCRAPE_SECONDS = 5
EXTERNAL_METRICS = "external.metrics.k8s.io"
ADAPTER_SERVICE = "keda-metrics"
PROCESSES = ("keda-adapter", "keda-operator", "prometheus")
STOP_SECONDS = 10.0


def is_installed(settings: Settings) -> bool:
    """Whether Prometheus and KEDA were started on this cluster."""
    return set(PROCESSES) <= set(recorded_names(settings))


def ensure(settings: Settings, progress: Progress) -> None:
    """Build what the cache lacks and start Prometheus and KEDA; return when an autoscaler can use them.

    Raises ClusterError if one of them does not become ready.
    """
    programs = build_programs(settings, progress, OPTIONAL_PROGRAMS)
    with progress.step("Prometheus and KEDA"):
        write_files(settings)
        apply_objects(settings, read_definitions(settings))
        kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", settings=settings)
        authority = (settings.pki / "ca.crt").read_bytes()
        apply_objects(settings, build_objects(authority))
        for spec in (prometheus(settings, programs), operator(settings, programs), adapter(settings, programs)):
            ensure_running(settings, spec)
        for check in (PROMETHEUS, EXTERNAL):
            wait_until(settings, check)


def remove(settings: Settings) -> None:
    """Remove KEDA and Prometheus, the APIService first: the API server would continue to call it."""
    kubectl("delete", "apiservice", f"v1beta1.{EXTERNAL_METRICS}", "--ignore-not-found", settings=settings)
    for definition in read_definitions(settings):
        name = str(definition["metadata"]["name"])  # type: ignore[index]
        kubectl("delete", "crd", name, "--ignore-not-found", "--wait", settings=settings)
    for name in PROCESSES:
        stop(settings, name, grace_seconds=STOP_SECONDS)


def read_definitions(settings: Settings) -> list[Manifest]:
    """KEDA's CRDs, from its Go module."""
    download = [ensure_go(settings), "mod", "download", "-json", KEDA_MODULE]
    answer = run(download, folder=settings.sources / "keda", environment=go_environment(settings))
    folder = Path(json.loads(answer)["Dir"]) / "config" / "crd" / "bases"
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml"))]


def build_objects(authority: bytes) -> list[Manifest]:
    """RBAC and the metrics API. `authority` is the CA certificate (PEM) that signed the adapter's certificate."""
    pods = rule([""], ["pods"], READ)
    figures = rule([EXTERNAL_METRICS], ["*"], ("get", "list"))
    reader = "toxicity:external-metrics-reader"
    autoscaler = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": NAMESPACE}
    return [
        *cluster_role("prometheus", [pods]),
        *cluster_role("keda", keda_rules()),
        *authentication("keda"),
        {**rbac("ClusterRole", reader), "rules": [figures]},
        binding("ClusterRoleBinding", reader, reader, autoscaler),
        *node_service(ADAPTER_SERVICE, [("https", "TCP", 443, ADAPTER_PORT)]),
        api_service(EXTERNAL_METRICS, ADAPTER_SERVICE, authority),
    ]


def keda_rules() -> list[Manifest]:
    """The permissions that KEDA needs for ScaledObjects of Deployments."""
    change = (*READ, "update", "patch")
    sources = ["cloudeventsources", "clustercloudeventsources"]
    kinds = ["scaledobjects", "scaledjobs", "triggerauthentications", "clustertriggerauthentications"]
    return [
        rule([""], ["configmaps", "limitranges", "pods", "secrets", "serviceaccounts", "services"], READ),
        rule(["", "events.k8s.io"], ["events"], ("create", "patch")),
        rule(["apps"], ["deployments", "replicasets", "statefulsets"], READ),
        rule(["apps"], ["deployments/scale"], change),
        rule(["autoscaling"], ["horizontalpodautoscalers"], (*change, "create", "delete")),
        rule(["batch"], ["jobs"], READ),
        rule(["discovery.k8s.io"], ["endpointslices"], READ),
        rule(["eventing.keda.sh"], [*sources, *(f"{name}/status" for name in sources)], change),
        rule(["keda.sh"], [f"{name}{part}" for name in kinds for part in ("", "/status", "/finalizers")], change),
    ]


def write_files(settings: Settings) -> None:
    """Write the configuration of Prometheus, and the certificates that both KEDA programs read."""
    folder = certificates(settings)
    folder.mkdir(exist_ok=True, mode=0o700)
    for source, name in (("ca.crt", "ca.crt"), ("keda-server.crt", "tls.crt"), ("keda-server.key", "tls.key")):
        shutil.copy(settings.pki / source, folder / name)
    document = prometheus_configuration(settings)
    (settings.config / "prometheus.json").write_text(json.dumps(document, indent=1) + "\n")


def certificates(settings: Settings) -> Path:
    return settings.pki / "keda"


def prometheus_configuration(settings: Settings) -> Mapping[str, object]:
    """Scrape the serving pods of every model, with the labels that the chart's ServiceMonitor adds."""
    discovery = {
        "role": "pod",
        "kubeconfig_file": f"{settings.pki}/prometheus.kubeconfig",
        "selectors": [{"role": "pod", "label": "toxicity.dev/component=serve"}],
    }
    labels = {
        "namespace": "__meta_kubernetes_namespace",
        "pod": "__meta_kubernetes_pod_name",
        "toxicity_dev_model": "__meta_kubernetes_pod_label_toxicity_dev_model",
    }
    port = {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "http", "action": "keep"}
    relabel = [port, *({"source_labels": [source], "target_label": name} for name, source in labels.items())]
    job = {"job_name": "toxicity-serving", "kubernetes_sd_configs": [discovery], "relabel_configs": relabel}
    return {"global": {"scrape_interval": f"{SCRAPE_SECONDS}s"}, "scrape_configs": [job]}


def prometheus(settings: Settings, programs: Mapping[str, Path]) -> ProcessSpec:
    config = settings.config / "prometheus.json"
    argv = (
        str(programs["prometheus"]),
        f"--config.file={config}",
        f"--storage.tsdb.path={settings.state}/prometheus",
        "--storage.tsdb.retention.time=2h",
        f"--web.listen-address={NODE_ADDRESS}:{PROMETHEUS_PORT}",
        "--log.level=warn",
    )
    return ProcessSpec("prometheus", argv, (config,))


def operator(settings: Settings, programs: Mapping[str, Path]) -> ProcessSpec:
    argv = (
        *_environment(settings),
        str(programs["keda-operator"]),
        "--metrics-bind-address=127.0.0.1:9085",
        "--health-probe-bind-address=127.0.0.1:9086",
        f"--metrics-service-bind-address={GRPC_ADDRESS}",
        f"--cert-dir={certificates(settings)}",
        f"--ca-dir={certificates(settings)}",
    )
    return ProcessSpec("keda-operator", argv)


def adapter(settings: Settings, programs: Mapping[str, Path]) -> ProcessSpec:
    folder, kubeconfig = certificates(settings), settings.pki / "keda.kubeconfig"
    argv = (
        *_environment(settings),
        str(programs["keda-adapter"]),
        f"--lister-kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--secure-port={ADAPTER_PORT}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={folder}/tls.crt",
        f"--tls-private-key-file={folder}/tls.key",
        f"--metrics-service-address={GRPC_ADDRESS}",
        "--port=9087",
    )
    return ProcessSpec("keda-adapter", argv)


def _environment(settings: Settings) -> tuple[str, ...]:
    """The variables that KEDA expects from its pod."""
    return (
        "/usr/bin/env",
        f"KUBECONFIG={settings.pki}/keda.kubeconfig",
        "WATCH_NAMESPACE=",
        f"POD_NAMESPACE={NAMESPACE}",
        f"KEDA_CLUSTER_OBJECT_NAMESPACE={NAMESPACE}",
    )


def check_prometheus(settings: Settings) -> str | None:
    """Ask from the host, which has a route to the node's address."""
    try:
        with urlopen(f"{PROMETHEUS_URL}/-/ready", timeout=PROBE_SECONDS) as answer:
            return None if answer.status == HTTPStatus.OK else f"Prometheus answers {answer.status}"
    except OSError as error:
        return f"Prometheus does not answer at {PROMETHEUS_URL} ({error})"


def check_external_metrics(settings: Settings) -> str | None:
    """The metrics API must be there before an autoscaler asks it."""
    path = f"/apis/{EXTERNAL_METRICS}/v1beta1"
    return asked(settings, "KEDA's metrics API does not answer", lambda: bool(get(settings, "--raw", path)))


PROMETHEUS = Check("Prometheus", "prometheus", 60.0, check_prometheus)
EXTERNAL = Check("KEDA", "keda-adapter", 120.0, check_external_metrics)
