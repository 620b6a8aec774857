"""The rendered configuration, parsed and compared where a wrong value would break the cluster."""

from __future__ import annotations

import ipaddress
import json
import tomllib
from pathlib import Path

import pytest

from toxicity_cluster import components, configuration
from toxicity_cluster.processes import ProcessSpec
from toxicity_cluster.settings import (
    API_SERVICE_ADDRESS,
    DNS_ADDRESS,
    HOST_ADDRESS,
    NODE_ADDRESS,
    POD_CIDR,
    SERVICE_CIDR,
    Settings,
)

IMAGE = "localhost/toxicity-node:0123456789ab"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", state=tmp_path / "state", sources=tmp_path)


def test_addresses_do_not_overlap() -> None:
    pods, services = ipaddress.ip_network(POD_CIDR), ipaddress.ip_network(SERVICE_CIDR)
    assert not pods.overlaps(services)
    assert ipaddress.ip_address(DNS_ADDRESS) in services and ipaddress.ip_address(API_SERVICE_ADDRESS) in services
    for address in (HOST_ADDRESS, NODE_ADDRESS):
        assert ipaddress.ip_address(address) not in pods and ipaddress.ip_address(address) not in services


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
