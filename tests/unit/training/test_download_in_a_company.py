"""Downloads with what the chart's `pods` sets: a mirror of the hub, a CA bundle and a proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.training.file_hosts import Files, Host, Hub, Kaggle, serving
from toxicity_cluster.pki import ensure_pki
from toxicity_cluster.settings import Settings

CSV = b"comment,toxic\n" + "привет,0\n".encode() * 40
COMMANDS: dict[type[Host], list[str]] = {
    Hub: ["dataset-hub", "--repo=owner/one", "--save-as=c.csv"],
    Kaggle: ["dataset-kaggle", "--dataset=owner/one", "--file=c.csv", "--save-as=c.csv"],
}
ENDPOINTS: dict[type[Host], str] = {Hub: "HF_ENDPOINT", Kaggle: "KAGGLE_API_ENDPOINT"}


def files() -> Files:
    return Files(datasets={"owner/one": {"c.csv": CSV}}, models={})


def download(kind: type[Host], folder: Path, **environment: str) -> tuple[int, str]:
    """The exit code and the output of the download into `folder`/got, without variables of this machine."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    target, log = f"--target={folder / 'got'}", f"--termination-log={folder / 'log'}"
    done = subprocess.run(
        [sys.executable, "-m", "toxicity_training.download", *COMMANDS[kind], target, log],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and a certificate of it for the loopback address."""
    folder = tmp_path_factory.mktemp("pki")
    settings = Settings(folder / "cache", folder / "state", folder / "cluster")
    ensure_pki(settings)
    return settings.pki


def test_hub_mirror_with_a_ca_of_its_own_is_trusted_with_the_bundle(pki: Path, tmp_path: Path) -> None:
    bundle = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(pki / "ca.crt"))
    with serving(Hub, files(), pki / "kube-apiserver.crt") as address:
        code, said = download(Hub, tmp_path, HF_ENDPOINT=address, **bundle)
    assert code == 0, said
    assert (tmp_path / "got" / "c.csv").read_bytes() == CSV


@pytest.mark.parametrize("kind", [Hub, Kaggle])
def test_host_is_reached_through_the_proxy(kind: type[Host], tmp_path: Path) -> None:
    """The host's name does not resolve here; the proxy knows it."""
    endpoint = {ENDPOINTS[kind]: "http://hub.invalid"}
    with serving(kind, files()) as proxy:
        variables = {"http_proxy": proxy, "HTTP_PROXY": proxy}
        code, said = download(kind, tmp_path, **endpoint, **variables, NO_PROXY=".svc", no_proxy=".svc")
    assert code == 0, said
    assert (tmp_path / "got" / "c.csv").read_bytes() == CSV
