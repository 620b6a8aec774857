"""The keys, certificates and kubeconfigs of the cluster, written once per cluster."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toxicity_cluster.settings import (
    API_SERVICE_ADDRESS,
    API_URL,
    CLUSTER_DOMAIN,
    NODE_ADDRESS,
    NODES,
    Settings,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

VALIDITY = datetime.timedelta(days=3650)
CLOCK_SKEW = datetime.timedelta(hours=1)


def user_name(component: str) -> str:
    """The user name of an add-on, in its certificate and in its role bindings."""
    return f"toxicity:{component}"


@dataclass(frozen=True)
class Identity:
    """A certificate to issue: its subject, its server names and the authority that signs it."""

    file: str
    common_name: str
    organization: str | None = None
    server_names: tuple[str, ...] = ()
    authority: str = "ca"


AUTHORITIES = ("ca", "front-proxy-ca")
IDENTITIES = (
    Identity(
        "kube-apiserver",
        "kube-apiserver",
        server_names=(
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
            "localhost",
            "127.0.0.1",
            NODE_ADDRESS,
            API_SERVICE_ADDRESS,
        ),
    ),
    *(
        Identity(f"kubelet-server{node.suffix}", node.name, server_names=(node.name, node.address))
        for node in NODES
    ),
    Identity(
        "metrics-server-server",
        "metrics-server",
        server_names=("metrics-server.kube-system.svc", NODE_ADDRESS),
    ),
    Identity("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    Identity("front-proxy-client", "front-proxy-client", authority="front-proxy-ca"),
    Identity("admin", "toxicity-admin", "system:masters"),
    *(Identity(f"kubelet{node.suffix}", f"system:node:{node.name}", "system:nodes") for node in NODES),
    Identity("kube-controller-manager", "system:kube-controller-manager"),
    Identity("kube-scheduler", "system:kube-scheduler"),
    Identity("kube-proxy", "system:kube-proxy"),
    Identity("coredns", user_name("coredns")),
    Identity("metrics-server", user_name("metrics-server")),
    Identity("local-path", user_name("local-path")),
    Identity("prometheus", user_name("prometheus")),
    Identity("keda", user_name("keda")),
    Identity("keda-server", "keda", server_names=("keda-metrics.kube-system.svc", "127.0.0.1", NODE_ADDRESS)),
)
CLIENTS = (
    "admin",
    *(f"kubelet{node.suffix}" for node in NODES),
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
    "metrics-server",
    "local-path",
    "prometheus",
    "keda",
)


def ensure_pki(settings: Settings) -> None:
    """Write every authority, certificate, key and kubeconfig that is missing."""
    folder = settings.pki
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for authority in AUTHORITIES:
        if not (folder / f"{authority}.crt").exists():
            issue(folder, Identity(authority, f"toxicity-{authority}", authority=authority))
    for identity in IDENTITIES:
        if not (folder / f"{identity.file}.crt").exists():
            issue(folder, identity)
    if not (folder / "service-accounts.key").exists():
        _write_service_account_keys(folder)
    for client in CLIENTS:
        path = settings.state / "kubeconfig" if client == "admin" else folder / f"{client}.kubeconfig"
        if not path.exists():
            _write_private(path, json.dumps(build_kubeconfig(folder, client), indent=1).encode())


def build_kubeconfig(folder: Path, client: str) -> dict[str, object]:
    """A kubeconfig for `client` with its key and certificate from `folder` embedded."""

    def embedded(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "toxicity",
        "clusters": [
            {"name": "toxicity", "cluster": {"server": API_URL, "certificate-authority-data": embedded("ca.crt")}}
        ],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate-data": embedded(f"{client}.crt"),
                    "client-key-data": embedded(f"{client}.key"),
                },
            }
        ],
        "contexts": [{"name": "toxicity", "context": {"cluster": "toxicity", "user": client}}],
    }


def issue(folder: Path, identity: Identity) -> None:
    """Issue one certificate; an identity that is its own authority is self-signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    is_authority = identity.authority == identity.file
    subject = _name(identity)
    issuer, signing_key = (subject, key) if is_authority else _read_authority(folder, identity.authority)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if is_authority:
        builder = builder.add_extension(_signing_usage(), critical=True)
    else:
        usages = [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH, x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if identity.server_names:
        names = x509.SubjectAlternativeName(_general_names(identity.server_names))
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signing_key, hashes.SHA256())
    _write_private(folder / f"{identity.file}.key", _private_pem(key))
    (folder / f"{identity.file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _name(identity: Identity) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name)]
    if identity.organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.organization))
    return x509.Name(attributes)


def _signing_usage() -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    general: list[x509.GeneralName] = []
    for name in names:
        if name.replace(".", "").isdigit():
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        else:
            general.append(x509.DNSName(name))
    return general


def _read_authority(folder: Path, authority: str) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate = x509.load_pem_x509_certificate((folder / f"{authority}.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / f"{authority}.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{authority}.key holds no elliptic-curve key")
    return certificate.subject, key


def _write_service_account_keys(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "service-accounts.pub").write_bytes(public)
    _write_private(folder / "service-accounts.key", _private_pem(key))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
