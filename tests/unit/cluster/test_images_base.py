"""What a build takes from the machine, read from files in the same form."""

from __future__ import annotations

from pathlib import Path

from toxicity_cluster.images_base import (
    TorchSource,
    acquire_options,
    build_volumes,
    choose_torch,
    debian_sources,
    package_index,
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


def test_a_wheel_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()

    source = choose_torch({"TORCH_WHEELS": str(tmp_path)})

    assert (source.argument, source.wheels, source.build) == ("wheels", tmp_path, "cpu")


def test_cuda_is_taken_when_asked_for_though_a_wheel_is_there(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()

    source = choose_torch({"TORCH_WHEELS": str(tmp_path), "TORCH_SOURCE": "pypi"})

    assert (source.argument, source.wheels, source.build) == ("pypi", None, "cuda")


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
