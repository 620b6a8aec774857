"""Refusals: each is one sentence that names the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_cluster.packages import (
    GIB,
    MIN_FREE_DISK_BYTES,
    MIN_MEMORY_BYTES,
    free_bytes,
    parse_packages,
    refuse_architecture,
    refuse_disk,
    refuse_memory,
    refuse_packages,
    refuse_user,
)
from toxicity_cluster.settings import Settings


def test_parse_packages_drops_comments_and_blank_lines() -> None:
    assert parse_packages("# all\nrunc\n\n  buildah  # images\n") == ["runc", "buildah"]


def test_the_packages_file_names_what_the_processes_call() -> None:
    names = parse_packages((Settings.from_environment({}).sources / "packages.txt").read_text())
    assert {"containerd", "runc", "containernetworking-plugins", "iptables", "conntrack", "iproute2"} <= set(names)
    assert len(names) == len(set(names))


def test_what_only_the_tests_need_is_not_installed_by_the_demo() -> None:
    sources = Settings.from_environment({}).sources
    tests = set(parse_packages((sources.parent / "tests" / "packages.txt").read_text()))
    assert {"chromium", "chromium-driver", "git"} <= tests
    assert tests & set(parse_packages((sources / "packages.txt").read_text())) == {"busybox-static"}


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (refuse_user(1000), ["root", "sudo"]),
        (refuse_packages(["runc", "buildah", "iptables"], {"runc"}), ["apt-get install", "buildah iptables"]),
        (refuse_architecture("aarch64"), ["amd64", "aarch64", "KUBECONFIG"]),
        (refuse_disk(Path("/cache"), 3 * GIB), ["3.0 GiB", "/cache", "TOXICITY_CACHE"]),
        (refuse_memory(2 * GIB), ["2.0 GiB of memory", "larger"]),
    ],
)
def test_a_refusal_is_one_sentence_with_the_remedy(refusal: str | None, words: list[str]) -> None:
    assert refusal is not None
    assert "\n" not in refusal and refusal.endswith(".")
    assert all(word in refusal for word in words), refusal


def test_nothing_is_refused_when_the_machine_has_all() -> None:
    assert refuse_user(0) is None
    assert refuse_packages(["runc"], {"runc", "bash"}) is None
    assert refuse_architecture("x86_64") is None
    assert refuse_disk(Path("/cache"), MIN_FREE_DISK_BYTES) is None
    assert refuse_memory(MIN_MEMORY_BYTES) is None


def test_free_bytes_measures_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)
