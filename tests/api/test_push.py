"""Push images to a real registry with TLS and a login, name them in files, and let another cluster pull them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from support.chart import image_reference
from support.ports import free_ports
from support.registry import Registry, running_registry
from toxicity_cluster import demo
from toxicity_cluster.__main__ import parse
from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah
from toxicity_cluster.demo_install import CHART_IMAGES
from toxicity_cluster.demo_kubectl import Kubectl
from toxicity_cluster.demo_pull import PULL_SECRET, ensure_access
from toxicity_cluster.errors import CommandFailed, Refusal
from toxicity_cluster.kubectl import program
from toxicity_cluster.progress import Progress
from toxicity_cluster.push import SAMPLE_DATASET, push_images, write_files
from toxicity_cluster.registry_login import login_files
from toxicity_cluster.settings import Settings

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A cache of this module's own, for the store of the images."""
    folder = tmp_path_factory.mktemp("machine")
    return Settings(folder / "cache", folder / "state", Settings.from_environment().sources)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), "127.0.0.1") as made:
        yield made


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
def trust(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CA in the folder of the user for this registry."""
    registry.trust_by(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def log_in(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.log_in(tmp_path / "auth.json")))


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


@pytest.fixture
def kubectl(machine: Settings, kubeconfig: Path) -> Kubectl:
    return Kubectl(program("kubectl", machine), kubeconfig)


def logins() -> list[Path]:
    return login_files("buildah", os.environ, Path.home(), os.geteuid())


def pulls(registry: Registry, reference: str, login: Path) -> bool:
    """Whether a pull with the logins of this file alone is allowed."""
    command = ["skopeo", "inspect", "--raw", "--cert-dir", str(registry.folder), "--authfile", str(login)]
    try:
        run([*command, f"docker://{reference}"])
    except CommandFailed as error:
        assert "unauthorized" in str(error) or "authentication required" in str(error)
        return False
    return True


def test_the_login_that_pushed_becomes_a_secret_that_pulls(
    folders: Settings, registry: Registry, images: dict[str, str], trust: None, log_in: None,
    kubectl: Kubectl, api_client: client.ApiClient, namespace: str, tmp_path: Path,
) -> None:  # fmt: skip
    one = {"dataset": images["dataset"]}
    reference = push_images(folders, Progress(), one, f"{registry.host}/team")["dataset"]
    said: list[str] = []
    for _ in range(2):  # a second run changes nothing
        names = ensure_access(kubectl, f"{registry.host}/team", None, logins(), [namespace], said.append)
    assert names == (PULL_SECRET,)
    secret = client.CoreV1Api(api_client).read_namespaced_secret(PULL_SECRET, namespace)
    assert secret.type == "kubernetes.io/dockerconfigjson" and not secret.metadata.annotations
    (tmp_path / "pull.json").write_bytes(base64.b64decode(secret.data[".dockerconfigjson"]))
    (tmp_path / "empty.json").write_text("{}")
    assert pulls(registry, reference, tmp_path / "pull.json")
    assert not pulls(registry, reference, tmp_path / "empty.json")
    assert registry.host in said[0] and namespace in said[0] and registry.password not in said[0]


def test_without_a_login_the_nodes_pull_without_a_secret(
    registry: Registry, logged_out: None, kubectl: Kubectl, api_client: client.ApiClient, namespace: str
) -> None:
    said: list[str] = []
    assert ensure_access(kubectl, registry.host, None, logins(), [namespace], said.append) == ()
    assert not client.CoreV1Api(api_client).list_namespaced_secret(namespace).items
    assert f"no login to {registry.host}" in said[0]


def test_a_given_secret_is_used_and_must_exist(
    registry: Registry, log_in: None, kubectl: Kubectl, api_client: client.ApiClient, namespace: str
) -> None:
    def access(given: str) -> tuple[str, ...]:
        return ensure_access(kubectl, f"{registry.host}/team", given, logins(), [namespace], print)

    with pytest.raises(Refusal, match=f"{namespace} has no such Secret: .*a login to {registry.host}"):
        access("mine")
    core = client.CoreV1Api(api_client)
    core.create_namespaced_secret(namespace, {"metadata": {"name": "mine"}})
    assert access("mine") == ("mine",)
    assert access("none") == ()
    assert [secret.metadata.name for secret in core.list_namespaced_secret(namespace).items] == ["mine"]


def test_a_cluster_out_of_reach_stops_the_demo_before_the_builds(
    machine: Settings, logged_out: None, tmp_path: Path
) -> None:
    address = f"https://127.0.0.1:{free_ports(1)[0]}"
    kubeconfig = {
        "clusters": [{"name": "a", "cluster": {"server": address}}],
        "users": [{"name": "a", "user": {"token": "t"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    options = parse(["demo", "--cluster", "current", "--registry", "registry.example/team"])
    said = io.StringIO()
    with pytest.raises(CommandFailed, match="refused"):
        demo.main(options, replace(machine, given_kubeconfig=tmp_path / "kubeconfig"), Progress(stream=said))
    assert "preparing the cluster to pull from registry.example/team: failed" in said.getvalue()
    assert "building" not in said.getvalue()
