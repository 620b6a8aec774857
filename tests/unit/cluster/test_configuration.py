"""The rendered configuration, parsed and compared where a wrong value would break the cluster."""

from __future__ import annotations

import ipaddress
import itertools
import json
import tomllib
from pathlib import Path

import pytest

from toxicity_cluster import components, configuration
from toxicity_cluster.processes import ProcessSpec
from toxicity_cluster.settings import (
    API_SERVICE_ADDRESS,
    DNS_ADDRESS,
    FIRST_NODE,
    HOST_ADDRESS,
    LINK_PREFIX,
    NODE_ADDRESS,
    SECOND_ADDRESS,
    SECOND_GATEWAY,
    SECOND_LINK,
    SECOND_NODE,
    SERVICE_CIDR,
    Settings,
)

IMAGE = "localhost/toxicity-node:0123456789ab"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", state=tmp_path / "state", sources=tmp_path)


def test_addresses_do_not_overlap() -> None:
    link = f"{NODE_ADDRESS}/{LINK_PREFIX}"
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in (link, SECOND_LINK, SERVICE_CIDR)]
    networks += [ipaddress.ip_network(node.pod_cidr) for node in (FIRST_NODE, SECOND_NODE)]
    for one, other in itertools.combinations(networks, 2):
        assert not one.overlaps(other)
    places = {HOST_ADDRESS: 0, NODE_ADDRESS: 0, SECOND_GATEWAY: 1, SECOND_ADDRESS: 1}
    places |= {DNS_ADDRESS: 2, API_SERVICE_ADDRESS: 2}
    for address, network in places.items():
        assert ipaddress.ip_address(address) in networks[network]


def test_the_nodes_share_certificates_and_image_cache_and_nothing_that_runs(settings: Settings) -> None:
    second = settings.second_node
    assert (second.pki, second.kubeconfig, second.cache) == (settings.pki, settings.kubeconfig, settings.cache)
    apart = ("netns", "containerd_root", "containerd_socket", "config", "logs", "pids")
    assert all(getattr(second, name) != getattr(settings, name) for name in apart)
    files = [configuration.kubelet_configuration(node)["tlsCertFile"] for node in (settings, second)]
    assert files == [f"{settings.pki}/kubelet-server.crt", f"{settings.pki}/kubelet-server-2.crt"]
    argv = components.kubelet(second, Path("kubelet")).argv
    assert {"--hostname-override=toxicity-node-2", f"--node-ip={SECOND_ADDRESS}"} < set(argv)
    assert f"--kubeconfig={settings.pki}/kubelet-2.kubeconfig" in argv


def test_a_second_node_counts_when_it_has_state(settings: Settings) -> None:
    assert settings.nodes == [settings]
    settings.second_node.state.mkdir(parents=True)
    assert [node.node for node in settings.nodes] == [FIRST_NODE, SECOND_NODE]


def test_containerd_keeps_images_in_the_cache_and_the_rest_in_the_state(settings: Settings) -> None:
    config = tomllib.loads(configuration.containerd_configuration(settings, IMAGE))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["root"] == str(settings.cache / "containerd")
    assert config["state"] == str(settings.state / "containerd")
    assert config["grpc"]["address"] == str(settings.containerd_socket)
    assert cri["sandbox_image"] == IMAGE
    assert cri["restrict_oom_score_adj"] is True
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False
    assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": f"{settings.state}/config/cni"}
    assert cri["registry"] == {"config_path": str(settings.registries)}
    assert settings.registries.is_relative_to(settings.state)


def test_kubelet_never_collects_images(settings: Settings) -> None:
    assert configuration.kubelet_configuration(settings)["imageGCHighThresholdPercent"] == 100


def test_write_configuration_writes_every_file_that_a_process_is_given(settings: Settings) -> None:
    configuration.write_configuration(settings, IMAGE)
    for name in components.ALL:
        for path in components.build_spec(settings, {}, name).files:
            assert path.read_text().strip(), path
    pod = json.loads((settings.config / "helper-pod.json").read_text())
    assert pod["spec"]["containers"][0]["image"] == IMAGE


def test_every_component_is_named_like_its_program(settings: Settings) -> None:
    configuration.write_configuration(settings, IMAGE)
    programs = {name: Path("/bin") / name for name in components.ALL}
    specs = [components.build_spec(settings, programs, name) for name in components.ALL]
    assert [spec.name for spec in specs] == list(components.ALL)
    assert [Path(spec.argv[0]).name for spec in specs] == list(components.ALL)


def test_digest_changes_with_arguments_and_with_files(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("a")
    first = ProcessSpec("x", ("x", "-a"), (config,)).digest()
    assert ProcessSpec("x", ("x", "-a"), (config,)).digest() == first
    assert ProcessSpec("x", ("x", "-b"), (config,)).digest() != first
    config.write_text("b")
    assert ProcessSpec("x", ("x", "-a"), (config,)).digest() != first
