"""Test that packed code is unpacked unchanged, and that a file with a wrong checksum is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from toxicity_api.stage_config import CompiledCode
from toxicity_serving.engine.compiled import pack, unpack


@pytest.fixture
def code(tmp_path: Path) -> CompiledCode:
    cache = tmp_path / "cache"
    (cache / "torch").mkdir(parents=True)
    (cache / "torch" / "kernel.so").write_bytes(b"code")
    digest = pack(cache, tmp_path / "compiled.zip")
    assert digest is not None
    return CompiledCode(path=tmp_path / "compiled.zip", sha256=digest)


def test_unpacked_files_equal_the_packed_ones(code: CompiledCode, tmp_path: Path) -> None:
    assert unpack(code, tmp_path / "pod" / "vllm")
    assert (tmp_path / "pod" / "vllm" / "torch" / "kernel.so").read_bytes() == b"code"


def test_empty_cache_writes_no_file(tmp_path: Path) -> None:
    (tmp_path / "cache" / "empty").mkdir(parents=True)
    assert pack(tmp_path / "cache", tmp_path / "compiled.zip") is None
    assert not (tmp_path / "compiled.zip").exists()


def test_changed_file_is_not_unpacked(
    code: CompiledCode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code.path.write_bytes(code.path.read_bytes() + b"more")
    with caplog.at_level(logging.WARNING):
        assert not unpack(code, tmp_path / "pod")
    assert not (tmp_path / "pod").exists()
    assert "compiled_code_refused" in caplog.text


def test_missing_file_is_logged(code: CompiledCode, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code.path.unlink()
    with caplog.at_level(logging.WARNING):
        assert not unpack(code, tmp_path / "pod")
    assert "compiled_code_missing" in caplog.text
