"""The processes of the cluster with their arguments, in the order in which they are started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from toxicity_cluster.configuration import HELPER_POD_NAME
from toxicity_cluster.processes import ProcessSpec
from toxicity_cluster.settings import NODE_ADDRESS, SERVICE_CIDR, Settings

METRICS_SERVER_PORT = 4443
CONTROL_PLANE = ("etcd", "kube-apiserver")
NODE = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
WORKER = ("kubelet", "kube-proxy")
"""What runs on the second node beside containerd."""
ADDONS = ("coredns", "local-path", "metrics-server")
ALL = ("containerd", *CONTROL_PLANE, *NODE, *ADDONS)


def build_spec(settings: Settings, programs: Mapping[str, Path], name: str) -> ProcessSpec:
    """The process called `name` (one of ALL), with its arguments."""
    builders: Mapping[str, Callable[[Settings, Path], ProcessSpec]] = {
        "containerd": lambda settings, _: containerd(settings),
        "etcd": etcd,
        "kube-apiserver": api_server,
        "kube-controller-manager": controller_manager,
        "kube-scheduler": scheduler,
        "kubelet": kubelet,
        "kube-proxy": kube_proxy,
        "coredns": coredns,
        "local-path": local_path,
        "metrics-server": metrics_server,
    }
    return builders[name](settings, programs.get(name, Path(name)))


def containerd(settings: Settings) -> ProcessSpec:
    config = settings.config / "containerd.toml"
    return ProcessSpec("containerd", ("/usr/bin/containerd", "--config", str(config)), (config,))


def etcd(settings: Settings, program: Path) -> ProcessSpec:
    """etcd without fsync: its state does not need to survive a power failure, and training uses the same disk."""
    argv = (
        str(program),
        f"--data-dir={settings.state}/etcd",
        "--name=toxicity",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=toxicity=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return ProcessSpec("etcd", argv)


def api_server(settings: Settings, program: Path) -> ProcessSpec:
    """The API server. It reaches the kubelet by address, because no DNS has the node's name.

    The front-proxy flags are for the aggregated metrics API.
    """
    pki = settings.pki
    argv = (
        str(program),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_ADDRESS}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/kube-apiserver.crt",
        f"--tls-private-key-file={pki}/kube-apiserver.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        "--profiling=false",
    )
    return ProcessSpec("kube-apiserver", argv)


def controller_manager(settings: Settings, program: Path) -> ProcessSpec:
    pki = settings.pki
    argv = (
        str(program),
        *_as_client(settings, "kube-controller-manager"),
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
    )
    return ProcessSpec("kube-controller-manager", argv)


def scheduler(settings: Settings, program: Path) -> ProcessSpec:
    argv = (
        str(program),
        *_as_client(settings, "kube-scheduler"),
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    )
    return ProcessSpec("kube-scheduler", argv)


def kubelet(settings: Settings, program: Path) -> ProcessSpec:
    config = settings.config / "kubelet.json"
    argv = (
        str(program),
        f"--config={config}",
        f"--kubeconfig={settings.pki}/kubelet{settings.node.suffix}.kubeconfig",
        f"--root-dir={settings.state}/kubelet",
        f"--hostname-override={settings.node.name}",
        f"--node-ip={settings.node.address}",
    )
    return ProcessSpec("kubelet", argv, (config,))


def kube_proxy(settings: Settings, program: Path) -> ProcessSpec:
    config = settings.config / "kube-proxy.json"
    return ProcessSpec("kube-proxy", (str(program), f"--config={config}"), (config,))


def coredns(settings: Settings, program: Path) -> ProcessSpec:
    config = settings.config / "Corefile"
    return ProcessSpec("coredns", (str(program), "-conf", str(config)), (config,))


def local_path(settings: Settings, program: Path) -> ProcessSpec:
    """The provisioner. The flags for a ConfigMap and a helper image are required, but unused beside the two files."""
    files = (settings.config / "local-path.json", settings.config / "helper-pod.json")
    argv = (
        str(program),
        "start",
        f"--kubeconfig={settings.pki}/local-path.kubeconfig",
        "--namespace=kube-system",
        "--provisioner-name=rancher.io/local-path",
        f"--config={files[0]}",
        f"--helper-pod-file={files[1]}",
        f"--helper-image={HELPER_POD_NAME}",
        "--configmap-name=unused",
        "--service-account-name=default",
    )
    return ProcessSpec("local-path", argv, files)


def metrics_server(settings: Settings, program: Path) -> ProcessSpec:
    pki = settings.pki
    argv = (
        str(program),
        *_as_client(settings, "metrics-server"),
        f"--secure-port={METRICS_SERVER_PORT}",
        f"--tls-cert-file={pki}/metrics-server-server.crt",
        f"--tls-private-key-file={pki}/metrics-server-server.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",
    )
    return ProcessSpec("metrics-server", argv)


def _as_client(settings: Settings, name: str) -> tuple[str, ...]:
    """Flags that use one kubeconfig as a client and for delegated authentication and authorization."""
    kubeconfig = settings.pki / f"{name}.kubeconfig"
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    )
