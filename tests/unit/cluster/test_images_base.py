"""What a build takes from the machine, read from files in the same form."""

from __future__ import annotations

import base64
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from toxicity_cluster.errors import Refusal
from toxicity_cluster.images_base import (
    CPU_INDEX,
    TorchSource,
    acquire_options,
    build_volumes,
    choose_torch,
    debian_sources,
    package_index,
    require_answer,
)
from toxicity_cluster.settings import Settings

DEB822 = """Types: deb
# URIs: http://old.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
"""


def test_only_sources_of_our_suite_count(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text("# deb http://mirror.example/debian bookworm main\n")
    (folder / "debian.sources").write_text(DEB822)
    (folder / "docker.list").write_text("deb https://vendor.example/linux/debian bookworm stable\n")
    (folder / "trixie.list").write_text("deb http://mirror.example/debian trixie main\n")
    (folder / "extra.list").write_text("deb [trusted=yes] http://mirror.example/debian bookworm main contrib\n")
    (folder / "old.sources.disabled").write_text(DEB822)

    assert debian_sources(tmp_path) == [folder / "debian.sources", folder / "extra.list"]


def test_a_machine_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert debian_sources(tmp_path / "none") == []


def test_only_how_to_reach_a_mirror_is_passed_on() -> None:
    dump = "\n".join(
        [
            'Acquire "";',
            'Acquire::http::Proxy "http://proxy.example:3128";',
            'Acquire::Check-Valid-Until "false";',
            'Acquire::Languages:: "none";',
            'APT::Update::Post-Invoke:: "rm -f /var/cache/apt/*.bin";',
            'Acquire::https "";',
        ]
    )

    assert acquire_options(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Valid-Until "false";\n'
    )


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    return tmp_path


def test_torch_is_the_cpu_build_unless_asked_otherwise(wheels: Path) -> None:
    empty = wheels / "empty"
    empty.mkdir()

    for environment in ({}, {"TORCH_SOURCE": ""}, {"TORCH_SOURCE": "cpu", "TORCH_WHEELS": str(empty)}):
        assert choose_torch(environment) == CPU_INDEX
    for environment in ({"TORCH_WHEELS": str(wheels)}, {"TORCH_SOURCE": "cpu", "TORCH_WHEELS": str(wheels)}):
        source = choose_torch(environment)
        assert (source.argument, source.wheels, source.build) == ("wheels", wheels, "cpu")


def test_cuda_is_taken_when_asked_for_though_a_wheel_is_there(wheels: Path) -> None:
    source = choose_torch({"TORCH_WHEELS": str(wheels), "TORCH_SOURCE": "cuda"})

    assert (source.argument, source.wheels, source.build) == ("cuda", None, "cuda")


def test_torch_source_names_an_index_or_a_folder(wheels: Path) -> None:
    index = choose_torch({"TORCH_SOURCE": "https://ada:secret@mirror.example/cpu", "TORCH_WHEELS": str(wheels)})
    folder = choose_torch({"TORCH_SOURCE": str(wheels)})

    assert (index.argument, index.wheels, index.build) == ("https://ada:secret@mirror.example/cpu", None, "cpu")
    assert index.explanation == "the index https://mirror.example/cpu"
    assert (folder.argument, folder.wheels, folder.build) == ("wheels", wheels, "cpu")


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    for given, problem in (
        ("pypi", "is pypi, which is neither"),
        (str(tmp_path), f"folder {tmp_path}, which has no"),
    ):
        with pytest.raises(Refusal, match=f"TORCH_SOURCE.*{re.escape(problem)}.*set `cpu`, `cuda`"):
            choose_torch({"TORCH_SOURCE": given})


@pytest.fixture
def index() -> Iterator[str]:
    """A package index that has torch below /cpu, and below /private for one user."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            login = base64.b64encode(b"ada:p@ss").decode()
            private = self.path == "/private/torch/" and self.headers["Authorization"] == f"Basic {login}"
            self.send_response(200 if private or self.path == "/cpu/torch/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_index_that_has_torch_is_used(index: str) -> None:
    require_answer(choose_torch({"TORCH_SOURCE": f"{index}/cpu"}))
    require_answer(choose_torch({"TORCH_SOURCE": f"{index}/cpu/"}))
    require_answer(choose_torch({"TORCH_SOURCE": f"{index}/private".replace("//", "//ada:p%40ss@")}))


def test_an_index_that_does_not_answer_never_selects_another_build(index: str) -> None:
    with socket.socket() as unused:  # bound and not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        closed = f"http://ada:secret@127.0.0.1:{unused.getsockname()[1]}/cpu"
        for given, problem in ((closed, "Connection refused"), (f"{index}/cu130", "Not Found")):
            with pytest.raises(
                Refusal, match=f"does not answer .*{problem}.*TORCH_SOURCE to `cpu`, `cuda`"
            ) as caught:
                require_answer(choose_torch({"TORCH_SOURCE": given}))
            assert "secret" not in str(caught.value)


def test_the_environments_index_comes_before_pips(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = https://pip.example/simple\n")

    assert package_index({}, configuration) == "https://pip.example/simple"
    assert (
        package_index({"UV_DEFAULT_INDEX": "https://uv.example/simple"}, configuration)
        == "https://uv.example/simple"
    )
    assert package_index({}, tmp_path / "none") is None


def test_a_build_mounts_cache_wheels_and_index(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "cache", tmp_path / "state", tmp_path / "cluster")
    environment = {"PIP_INDEX_URL": "https://pip.example/simple"}

    volumes = build_volumes(settings, environment, tmp_path, TorchSource("wheels", "", tmp_path / "wheels"))

    assert volumes[0] == f"{tmp_path}/cache/uv:/var/cache/uv:rw"
    assert volumes[-2:] == [f"{tmp_path}/uv.toml:/etc/uv/uv.toml:ro", f"{tmp_path}/wheels:/wheels:ro"]
    assert f"{tmp_path}/apt.conf:/etc/apt/apt.conf.d/90-this-machine:ro" in volumes
    assert 'url = "https://pip.example/simple"' in (tmp_path / "uv.toml").read_text()
