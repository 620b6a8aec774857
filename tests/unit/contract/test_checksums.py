"""Checksums of a model folder: every change of a file is detected, and the error names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from toxicity_api.checksums import CHECKSUMS_FILE, ChecksumError, verify_checksums, write_checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 5000)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.json").write_text("[]")
    write_checksums(tmp_path)
    return tmp_path


def test_an_unchanged_folder_is_verified(folder: Path) -> None:
    assert verify_checksums(folder)
    assert set(json.loads((folder / CHECKSUMS_FILE).read_text())["files"]) == {
        "model.safetensors",
        "config.json",
        "parts/a.json",
    }


def test_a_digest_is_the_one_sha256sum_prints(folder: Path) -> None:
    # printf '[]' | sha256sum
    digest = json.loads((folder / CHECKSUMS_FILE).read_text())["files"]["parts/a.json"]
    assert digest == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


def flip_one_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[777_777] ^= 1
    (folder / "model.safetensors").write_bytes(data)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (flip_one_bit, r"model\.safetensors has sha256"),
    "cut": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json has sha256"),
    "gone": (lambda folder: (folder / "parts" / "a.json").unlink(), r"parts/a\.json is missing"),
    "added": (lambda folder: (folder / "b.safetensors").touch(), r"b\.safetensors is not in checksums\.json"),
    "damaged list": (lambda folder: (folder / CHECKSUMS_FILE).write_text("{"), r"checksums\.json cannot be read"),
    "other list": (lambda folder: (folder / CHECKSUMS_FILE).write_text("[]"), r"checksums\.json cannot be read"),
    "other digest": (
        lambda folder: (folder / CHECKSUMS_FILE).write_text('{"algorithm": "md5", "files": {}}'),
        "uses the algorithm 'md5'",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_refused_by_the_file_s_name(folder: Path, change: str) -> None:
    apply, message = CHANGES[change]
    apply(folder)
    with pytest.raises(ChecksumError, match=message):
        verify_checksums(folder)


def test_writing_again_ignores_the_list_itself(folder: Path) -> None:
    before = (folder / CHECKSUMS_FILE).read_text()
    write_checksums(folder)
    assert (folder / CHECKSUMS_FILE).read_text() == before


def test_a_folder_without_checksums_is_not_verified(folder: Path) -> None:
    (folder / CHECKSUMS_FILE).unlink()
    assert not verify_checksums(folder)
