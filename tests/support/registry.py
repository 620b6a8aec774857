"""A container registry with TLS, a CA of its own and one user, for the time of a test."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import yaml

from support.ports import free_ports
from toxicity_cluster.build import build_program
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.pki import Identity, issue
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

START_SECONDS = 30
USER, PASSWORD = "ada", "correct horse"


@dataclass(frozen=True)
class Registry:
    """A running registry. `folder` has its CA, `ca.crt`."""

    host: str
    folder: Path
    password: str = PASSWORD

    def get(self, path: str, accept: str = "*/*") -> httpx.Response:
        return httpx.get(
            f"https://{self.host}{path}",
            auth=(USER, PASSWORD),
            verify=ssl.create_default_context(cafile=self.folder / "ca.crt"),
            headers={"Accept": accept},
            trust_env=False,
        )

    def trust_by(self, home: Path) -> None:
        """Let buildah, podman and skopeo with this home folder trust the CA."""
        folder = home / ".config" / "containers" / "certs.d" / self.host
        folder.mkdir(parents=True)
        shutil.copy(self.folder / "ca.crt", folder)

    def log_in(self, file: Path) -> Path:
        """Write what `docker login` or `buildah login` leaves; return the file."""
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"auths": {self.host: {"auth": pair}}}))
        return file


@contextmanager
def running_registry(folder: Path, address: str) -> Iterator[Registry]:
    """Start a registry on a free port of `address`, with its images in `folder`; stop it at the end."""
    program = build_program(Settings.from_environment(), Progress(), "registry")
    certificates, host = folder / "tls", f"{address}:{free_ports(1)[0]}"
    certificates.mkdir()
    issue(certificates, Identity("ca", "registry-ca", authority="ca"))
    issue(certificates, Identity("registry", "registry", server_names=(address,)))
    # apart from the keys, because the engines take each file of the folder as a certificate
    made = Registry(host, folder / "trust")
    made.folder.mkdir()
    shutil.copy(certificates / "ca.crt", made.folder)
    file = folder / "registry.yaml"
    file.write_text(yaml.safe_dump(_configuration(folder, host)))
    log, environment = folder / "registry.log", {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    command = [program, "serve", file]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return made.get("/v2/").status_code == 200
            except httpx.ConnectError:
                return False

        try:
            wait_until("the registry to answer", answers, START_SECONDS)
            yield made
        finally:
            process.terminate()


def _configuration(folder: Path, host: str) -> dict[str, Any]:
    users = folder / "users"
    users.write_bytes(USER.encode() + b":" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)))
    return {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "auth": {"htpasswd": {"realm": "test", "path": str(users)}},
        "http": {
            "addr": host,
            "secret": "of this test",
            "tls": {
                "certificate": str(folder / "tls" / "registry.crt"),
                "key": str(folder / "tls" / "registry.key"),
            },
        },
    }
