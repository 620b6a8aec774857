"""The cache keys of the cluster's programs and the choice of the Go toolchain."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_cluster.__main__ import main
from toxicity_cluster.build import (
    EVERY_PROGRAM,
    OPTIONAL_PROGRAMS,
    PROGRAMS,
    TOOLS,
    find_programs,
    program_folder,
    program_key,
)
from toxicity_cluster.errors import ClusterError
from toxicity_cluster.settings import Settings
from toxicity_cluster.toolchain import parse_go_version

FLAGS = ("-trimpath", ".")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "go.mod").write_text("module example\n")
    (folder / "main.go").write_text("package main\n")
    return folder


def test_program_key_is_stable_when_nothing_changed(module: Path) -> None:
    assert program_key(module, "go1.26.6", FLAGS) == program_key(module, "go1.26.6", FLAGS)


def test_program_key_changes_with_everything_the_binary_is_made_of(module: Path) -> None:
    keys = [program_key(module, "go1.26.6", FLAGS)]
    keys.append(program_key(module, "go1.26.7", FLAGS))
    keys.append(program_key(module, "go1.26.6", (*FLAGS, "-race")))
    (module / "go.sum").write_text("example v1 h1:x\n")
    keys.append(program_key(module, "go1.26.6", FLAGS))
    (module / "main.go").rename(module / "other.go")
    keys.append(program_key(module, "go1.26.6", FLAGS))
    assert len(set(keys)) == 5


def test_program_key_ignores_files_that_go_does_not_read(module: Path) -> None:
    before = program_key(module, "go1.26.6", FLAGS)
    (module / "notes.txt").write_text("x")
    assert program_key(module, "go1.26.6", FLAGS) == before


def test_every_program_has_a_module_with_pinned_sums() -> None:
    sources = Settings.from_environment({}).sources
    for program in EVERY_PROGRAM:
        assert (sources / program.folder / "go.mod").is_file(), program.name
        if program.name != "pause":  # the standard library only
            assert (sources / program.folder / "go.sum").is_file(), program.name


def test_programs_of_one_module_have_folders_of_their_own() -> None:
    settings = Settings.from_environment({})
    folders = {program_folder(settings, program, "go1.26.6") for program in EVERY_PROGRAM}
    assert len(folders) == len(EVERY_PROGRAM)


def test_find_programs_names_the_missing_one_when_the_cache_is_empty(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path, Settings.from_environment({}).sources)
    with pytest.raises(ClusterError, match="kubernetes is not built: run"):
        find_programs(settings)


def all_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A cache with every program that is built by default."""
    monkeypatch.setattr("toxicity_cluster.build.toolchain_version", lambda: "go1.26.6")
    settings = Settings(tmp_path, tmp_path, Settings.from_environment({}).sources)
    for program in PROGRAMS:
        folder = program_folder(settings, program, "go1.26.6")
        folder.mkdir(parents=True)
        (folder / program.name).touch()
    return settings


def test_programs_that_are_not_asked_for_need_not_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = all_built(tmp_path, monkeypatch)
    assert not {program.name for program in OPTIONAL_PROGRAMS} & set(find_programs(settings))
    with pytest.raises(ClusterError, match="prometheus is not built"):
        find_programs(settings, OPTIONAL_PROGRAMS)


def test_a_tool_of_the_checks_is_no_part_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = all_built(tmp_path, monkeypatch)
    assert not {program.name for program in TOOLS} & set(find_programs(settings))
    actionlint = program_folder(settings, TOOLS[0], "go1.26.6") / "actionlint"
    actionlint.parent.mkdir()
    actionlint.touch()
    monkeypatch.setenv("TOXICITY_CACHE", str(tmp_path))
    assert main(["program", "actionlint"]) == 0
    assert capsys.readouterr().out == f"{actionlint}\n"


def test_find_programs_returns_aliases_when_all_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = all_built(tmp_path, monkeypatch)
    found = find_programs(settings)
    assert found["kubectl"].parent == found["kubernetes"].parent
    assert {"kubelet", "etcd", "helm", "coredns", "metrics-server", "local-path", "pause"} <= set(found)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", "go1.26.8"),
        ("go version go1.27 linux/amd64", "go1.27"),
        ("go version go2.0.1 linux/arm64", "go2.0.1"),
        ("go version go1.25.9 linux/amd64", None),
        ("go version devel +abc", None),
        ("", None),
    ],
)
def test_parse_go_version_accepts_only_new_enough_releases(text: str, version: str | None) -> None:
    assert parse_go_version(text) == version
