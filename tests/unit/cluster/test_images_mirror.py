"""A build installs packages with pip and uv from a mirror with a login and a CA of its own, and from nowhere else."""

from __future__ import annotations

import base64
import configparser
import http.server
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from toxicity_cluster.images_base import CPU_INDEX, build_volumes, proxy_arguments, write_pip_configuration
from toxicity_cluster.pki import ensure_pki
from toxicity_cluster.settings import Settings

LOGIN = "ada:pass"
WHEEL = "locked-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Folders with a CA, and a certificate of it for the loopback address."""
    folder = tmp_path_factory.mktemp("machine")
    made = Settings(folder / "cache", folder / "state", folder / "cluster")
    ensure_pki(made)
    return made


@pytest.fixture(scope="module")
def mirror(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package index over HTTPS with one package."""
    folder = tmp_path_factory.mktemp("mirror")
    files = folder / "simple" / "locked"
    files.mkdir(parents=True)
    with zipfile.ZipFile(files / WHEEL, "w") as wheel:
        wheel.writestr("locked.py", "")
        wheel.writestr("locked-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1.0\n")
        wheel.writestr(
            "locked-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("locked-1.0.dist-info/RECORD", "")

    class Index(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.headers["Authorization"] != f"Basic {base64.b64encode(LOGIN.encode()).decode()}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.pki / "kube-apiserver.crt", settings.pki / "kube-apiserver.key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://{LOGIN}@127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_packages_come_from_the_mirror_of_the_environment(
    installer: str, mirror: str, settings: Settings, tmp_path: Path
) -> None:
    build_volumes(settings, {"UV_DEFAULT_INDEX": mirror}, tmp_path, CPU_INDEX)
    authority = settings.pki / "ca.crt"
    write_pip_configuration(tmp_path / "pip.conf", tmp_path / "none", mirror, authority)
    # a build has no other configuration, and the machine's certificates at their usual path
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
        "UV_SYSTEM_CERTS": "1",
        "SSL_CERT_FILE": str(authority) if installer == "uv" else "",
    }
    folder = Path(sys.executable).parent
    command = [str(folder / "uv"), "pip"] if installer == "uv" else [sys.executable, "-m", "pip"]
    done = subprocess.run(
        [*command, "install", "--no-deps", "--target", str(tmp_path / "installed"), "locked==1.0"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed" / "locked.py").is_file()


def test_the_machines_pip_configuration_is_kept(tmp_path: Path) -> None:
    given, written = tmp_path / "given.conf", tmp_path / "pip.conf"
    given.write_text(
        "[global]\nindex-url = https://pip.example/simple\ntimeout = 99\ntrusted-host = pip.example\n"
    )
    write_pip_configuration(written, given, "https://uv.example/simple", tmp_path / "no-certificates")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(written)
    assert dict(parser["global"]) == {
        "index-url": "https://uv.example/simple",
        "timeout": "99",
        "trusted-host": "pip.example",
    }


def test_a_build_with_docker_gets_the_proxies_by_name_only() -> None:
    environment = {"HTTPS_PROXY": "http://ada:secret@proxy.example", "no_proxy": ".example", "HTTP_PROXY": ""}
    assert proxy_arguments(environment) == ["--build-arg", "HTTPS_PROXY", "--build-arg", "no_proxy"]
