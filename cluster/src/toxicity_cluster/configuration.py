"""The configuration files of the cluster's processes: pure functions of the settings, and their writer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from toxicity_cluster.settings import CLUSTER_DOMAIN, DNS_ADDRESS, Settings

CNI_PLUGINS = "/usr/lib/cni"
HELPER_POD_NAME = "volume-helper"


def write_configuration(settings: Settings, node_image: str) -> None:
    """Write every configuration file below the state folder."""
    folder = settings.config
    documents: Mapping[str, Mapping[str, object]] = {
        "kubelet.json": kubelet_configuration(settings),
        "kube-proxy.json": kube_proxy_configuration(settings),
        "cni/10-toxicity.conflist": cni_configuration(settings),
        "local-path.json": local_path_configuration(settings),
        "helper-pod.json": helper_pod(node_image),
    }
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")
    (folder / "containerd.toml").write_text(containerd_configuration(settings, node_image))
    (folder / "Corefile").write_text(corefile(settings))


def containerd_configuration(settings: Settings, node_image: str) -> str:
    """containerd's TOML: the store is in the cache, everything else in the state folder.

    restrict_oom_score_adj: without CAP_SYS_RESOURCE no process may lower the value, and every sandbox would fail.
    """
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    unused = json.dumps([f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")])
    return f"""version = 2
root = "{settings.containerd_root}"
state = "{settings.containerd_socket.parent}"
disabled_plugins = {unused}

[grpc]
  address = "{settings.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{settings.state}/opt"

[{cri}]
  sandbox_image = "{node_image}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  max_concurrent_downloads = 1

[{cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = "{settings.state}/runc"

[{cri}.cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{settings.config}/cni"

[{cri}.registry]
  config_path = "{settings.registries}"
"""


def cni_configuration(settings: Settings) -> dict[str, object]:
    """Pods are on one bridge with addresses of the node. No masquerading: no traffic leaves the machine."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{settings.state}/cni",
            "ranges": [[{"subnet": settings.node.pod_cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "toxicity", "plugins": [bridge, portmap]}


def kubelet_configuration(settings: Settings) -> dict[str, object]:
    """KubeletConfiguration. Image garbage collection is off: no registry could provide the images again."""
    pki = settings.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet-server{settings.node.suffix}.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet-server{settings.node.suffix}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{settings.node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{settings.containerd_socket}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "/dev/null",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "64Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "podLogsDir": f"{settings.state}/pod-logs",
        "volumePluginDir": f"{settings.state}/volume-plugins",
        "serializeImagePulls": False,
        "maxPods": 110,
    }


def kube_proxy_configuration(settings: Settings) -> dict[str, object]:
    """KubeProxyConfiguration. It does not change the conntrack limits of the host."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{settings.pki}/kube-proxy.kubeconfig"},
        "hostnameOverride": settings.node.name,
        "mode": "iptables",
        "clusterCIDR": settings.node.pod_cidr,
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
    }


def corefile(settings: Settings) -> str:
    """CoreDNS answers only for the names of the cluster: pods have no other network."""
    return f""".:53 {{
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {settings.pki}/coredns.kubeconfig
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def local_path_configuration(settings: Settings) -> dict[str, object]:
    """The provisioner's config.json: one folder per node, managed by `/volume` of the node image."""
    return {
        "nodePathMap": [
            {"node": node.node.name, "paths": [str(volumes_folder(node))]}
            for node in (settings, settings.second_node)
        ],
        "setupCommand": "/volume",
        "teardownCommand": "/volume",
    }


def volumes_folder(settings: Settings) -> Path:
    return settings.state / "volumes"


def helper_pod(node_image: str) -> dict[str, object]:
    """The pod that creates and removes a volume's folder. It runs as root, because other users own the files in it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": HELPER_POD_NAME},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": HELPER_POD_NAME,
                    "image": node_image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {"runAsUser": 0, "runAsGroup": 0},
                }
            ],
        },
    }
