"""What `make packages` refuses, with the real apt and dpkg on a machine of the test's own.

The machine is a folder: a dpkg database and a package source, which apt and dpkg are pointed to. Nothing is installed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "cluster" / "install-packages.sh"
INSTALLED = """Package: {name}
Status: install ok installed
Architecture: amd64
Version: 1.7.27-1
Maintainer: none
Description: none
{fields}
"""
OFFERED = """Package: containerd
Architecture: amd64
Version: 1.6.20
Filename: ./containerd.deb
Size: 1
SHA256: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b
"""
CONFLICT = "Provides: containerd\nConflicts: containerd\nReplaces: containerd\n"


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine on which nothing is installed, and whose package source offers containerd."""
    for folder in ("dpkg/info", "dpkg/updates", "lists/partial", "cache/archives/partial", "source", "log", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dpkg/status").touch()
    (tmp_path / "source/Packages").write_text(OFFERED)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{tmp_path}/source ./\n")
    settings = {
        "Dir::Etc": tmp_path / "etc",
        "Dir::Etc::SourceList": tmp_path / "sources.list",
        "Dir::State": tmp_path,
        "Dir::State::Lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "dpkg/status",
        "Dir::Cache": tmp_path / "cache",
        "Dir::Log": tmp_path / "log",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf"), "DPKG_ADMINDIR": str(tmp_path / "dpkg")}
    subprocess.run(["apt-get", "update", "-q"], env=environment, check=True, capture_output=True)
    return environment


def install(machine: dict[str, str], *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *names], env=machine, check=False, capture_output=True, text=True)


def status(machine: dict[str, str], name: str, fields: str = "") -> None:
    """Note the package as installed."""
    database = Path(machine["DPKG_ADMINDIR"])
    with (database / "status").open("a") as file:
        file.write(INSTALLED.format(name=name, fields=fields))


def test_what_is_installed_needs_neither_root_nor_a_package_source(machine: dict[str, str]) -> None:
    status(machine, "containerd")
    done = install(machine, "containerd")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_package_that_would_replace_another_is_refused(machine: dict[str, str]) -> None:
    status(machine, "containerd.io", CONFLICT)
    before = Path(machine["DPKG_ADMINDIR"], "status").read_text()

    done = install(machine, "containerd")

    assert done.returncode == 1
    assert "installing containerd would remove containerd.io" in done.stderr
    assert "KUBECONFIG" in done.stderr
    assert Path(machine["DPKG_ADMINDIR"], "status").read_text() == before
