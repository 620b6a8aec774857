"""Certificates that verify against their authority, and add-on objects that refer to each other correctly."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from toxicity_cluster.addons import build_addons
from toxicity_cluster.pki import CLIENTS, IDENTITIES, ensure_pki
from toxicity_cluster.settings import API_URL, DNS_ADDRESS, NODE_ADDRESS, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(cache=tmp_path / "cache", state=tmp_path / "state", sources=tmp_path)
    settings.state.mkdir()
    ensure_pki(settings)
    return settings


def certificate(settings: Settings, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((settings.pki / f"{name}.crt").read_bytes())


def test_every_certificate_is_signed_by_its_authority(settings: Settings) -> None:
    for identity in IDENTITIES:
        certificate(settings, identity.file).verify_directly_issued_by(certificate(settings, identity.authority))
        with pytest.raises(ValueError, match="Issuer"):
            other = "front-proxy-ca" if identity.authority == "ca" else "ca"
            certificate(settings, identity.file).verify_directly_issued_by(certificate(settings, other))


def test_the_node_certificate_names_the_node_and_its_group(settings: Settings) -> None:
    subject = certificate(settings, "kubelet").subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:toxicity-node"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_the_api_certificate_is_valid_for_the_address_of_the_kubeconfig(settings: Settings) -> None:
    names = certificate(settings, "kube-apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert NODE_ADDRESS in [str(address) for address in names.value.get_values_for_type(x509.IPAddress)]
    config = json.loads(settings.kubeconfig.read_text())
    assert config["clusters"][0]["cluster"]["server"] == API_URL
    embedded = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    assert embedded == (settings.pki / "ca.crt").read_bytes()


def test_keys_and_kubeconfigs_are_private_and_kept_by_a_second_run(settings: Settings) -> None:
    secrets = [*settings.pki.glob("*.key"), *settings.pki.glob("*.kubeconfig"), settings.kubeconfig]
    assert len(secrets) == len(IDENTITIES) + 2 + 1 + len(CLIENTS)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in secrets)
    before = {path: path.read_bytes() for path in secrets}
    ensure_pki(settings)
    assert {path: path.read_bytes() for path in secrets} == before


def by_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in build_addons(b"PEM") if manifest["kind"] == kind]


def test_every_service_has_a_slice_with_the_same_port_names() -> None:
    slices = {item["metadata"]["labels"]["kubernetes.io/service-name"]: item for item in by_kind("EndpointSlice")}
    services = {item["metadata"]["name"]: item for item in by_kind("Service")}
    assert set(services) == set(slices) == {"kube-dns", "metrics-server"}
    for name, service in services.items():
        ports = [(port["name"], port["protocol"], port["targetPort"]) for port in service["spec"]["ports"]]
        assert ports == [(port["name"], port["protocol"], port["port"]) for port in slices[name]["ports"]]
        assert slices[name]["endpoints"][0]["addresses"] == [NODE_ADDRESS]
    assert services["kube-dns"]["spec"]["clusterIP"] == DNS_ADDRESS


def test_every_binding_refers_to_a_role_and_to_a_certificate() -> None:
    roles = {item["metadata"]["name"] for item in by_kind("ClusterRole")} | {"system:auth-delegator"}
    users = {identity.common_name for identity in IDENTITIES}
    bindings = by_kind("ClusterRoleBinding")
    assert len(bindings) == 4
    for binding in bindings:
        assert binding["roleRef"]["name"] in roles
        assert {subject["name"] for subject in binding["subjects"]} <= users


def test_no_rule_of_an_add_on_has_a_wildcard() -> None:
    rules = [rule for role in by_kind("ClusterRole") for rule in role["rules"]]
    assert rules
    assert not [rule for rule in rules if "*" in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])]
