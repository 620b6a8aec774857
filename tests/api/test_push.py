"""Push images to a real registry with TLS and a login, and name them in the files for another cluster."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import httpx
import pytest
import yaml

from support.chart import image_reference
from support.ports import free_ports
from toxicity_cluster.build import build_program
from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah
from toxicity_cluster.demo_install import CHART_IMAGES
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_cluster.errors import Refusal
from toxicity_cluster.pki import ensure_pki
from toxicity_cluster.progress import Progress
from toxicity_cluster.push import SAMPLE_DATASET, push_images, write_files
from toxicity_cluster.settings import Settings

pytestmark = pytest.mark.api

USER, PASSWORD = "ada", "correct horse"


@dataclass(frozen=True)
class Registry:
    host: str
    certificates: Path

    def get(self, path: str, accept: str = "*/*") -> httpx.Response:
        url, login = f"https://{self.host}{path}", (USER, PASSWORD)
        return httpx.get(
            url,
            auth=login,
            verify=ssl.create_default_context(cafile=self.certificates),
            headers={"Accept": accept},
            trust_env=False,
        )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Folders of this module's own, with certificates for the loopback address."""
    folder = tmp_path_factory.mktemp("machine")
    settings = Settings(folder / "cache", folder / "state", Settings.from_environment().sources)
    ensure_pki(settings)
    return settings


@pytest.fixture(scope="module")
def registry(folders: Settings) -> Iterator[Registry]:
    program = build_program(Settings.from_environment(), Progress(), "registry")
    host = f"127.0.0.1:{free_ports(1)[0]}"
    users = folders.state / "users"
    users.write_bytes(USER.encode() + b":" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)))
    configuration = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folders.state / "registry")}},
        "auth": {"htpasswd": {"realm": "test", "path": str(users)}},
        "http": {
            "addr": host,
            "secret": "of this test",
            "tls": {
                "certificate": str(folders.pki / "kube-apiserver.crt"),
                "key": str(folders.pki / "kube-apiserver.key"),
            },
        },
    }
    file = folders.state / "registry.yaml"
    file.write_text(yaml.safe_dump(configuration))
    made = Registry(host, folders.pki / "ca.crt")
    with subprocess.Popen([program, "serve", file], env={**os.environ, "OTEL_TRACES_EXPORTER": "none"}) as process:

        def answers() -> bool:
            assert process.poll() is None, "the registry ended"
            try:
                return made.get("/v2/").status_code == 200
            except httpx.ConnectError:
                return False

        try:
            wait_until("the registry to answer", answers, 30)
            yield made
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def images(folders: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An image of one file for each part that pods run, every file with another content."""
    context = tmp_path_factory.mktemp("context")
    built = {}
    for part in (*CHART_IMAGES, "base-model", "dataset"):
        (context / "file").write_text(part)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
        built[part] = f"localhost/toxicity-{part}:{len(part):012x}"
        command = [*buildah(folders), "build", "--quiet", "--tag", built[part], str(context)]
        run(command, environment={"BUILDAH_ISOLATION": "chroot"})
    return built


@pytest.fixture
def trust(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(registry.certificates))


@pytest.fixture
def log_in(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `buildah login` leaves."""
    file = tmp_path / "auth.json"
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    file.write_text(json.dumps({"auths": {registry.host: {"auth": pair}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))


@pytest.fixture
def logged_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none.json").write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))


def test_pushed_images_are_in_the_registry_under_their_tags(
    folders: Settings, registry: Registry, images: dict[str, str], trust: None, log_in: None, tmp_path: Path
) -> None:
    pushed = push_images(folders, Progress(), images, f"{registry.host}/team/")

    assert pushed["dataset"] == f"{registry.host}/team/toxicity-dataset:{len('dataset'):012x}"
    for part, reference in pushed.items():
        repository, _, tag = reference.removeprefix(f"{registry.host}/").rpartition(":")
        manifest = registry.get(f"/v2/{repository}/manifests/{tag}", "application/vnd.oci.image.manifest.v1+json")
        assert manifest.status_code == 200, part
    values, sample = (yaml.safe_load(file.read_text()) for file in write_files(tmp_path, pushed, SAMPLE_DATASET))
    assert values["images"].pop("quantizationAutoawq") == {"repository": ""}
    assert {part: image_reference(value) for part, value in values["images"].items()} == {
        part: pushed[part] for part in CHART_IMAGES
    }
    assert sample["spec"]["dataset"]["image"]["reference"] == pushed["dataset"]
    assert sample["spec"]["baseModel"]["image"]["reference"] == pushed["base-model"]


def test_a_registry_that_wants_a_login_is_named_with_the_command(
    folders: Settings, registry: Registry, images: dict[str, str], trust: None, logged_out: None
) -> None:
    with pytest.raises(Refusal, match=f"refused .* run `buildah login {registry.host}`"):
        push_images(folders, Progress(), images, f"{registry.host}/team")


def test_a_certificate_that_is_not_trusted_is_named_with_the_folder_for_it(
    folders: Settings, registry: Registry, images: dict[str, str], log_in: None
) -> None:
    with pytest.raises(Refusal, match=f"not trusted.*certs.d/{registry.host}/ca.crt"):
        push_images(folders, Progress(), images, f"{registry.host}/team")
