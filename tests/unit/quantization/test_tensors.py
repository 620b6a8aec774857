"""safetensors files, also sharded ones, are read without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.training.checkpoints import bf16, write_safetensors
from toxicity_quantization import tensors
from toxicity_quantization.tensors import chunks, first_dead, first_not_finite, read_tensors, read_values


def test_values_of_every_shard_are_read_in_their_types(tmp_path: Path) -> None:
    whole = np.array([[1.5, -2.0, 0.25], [0.0, 3.0, -0.125]], dtype=np.float32)
    write_safetensors(tmp_path / "model-1.safetensors", {"a": bf16(whole), "b": np.array([7, -8], dtype=np.int32)})
    write_safetensors(tmp_path / "model-2.safetensors", {"c": whole.astype(np.float16), "d": whole})
    read = read_tensors(tmp_path)
    assert sorted(read) == ["a", "b", "c", "d"]
    assert (read["a"].dtype, read["a"].shape, read["a"].size_bytes) == ("BF16", (2, 3), 12)
    for name in "acd":
        np.testing.assert_array_equal(read_values(read[name]), whole)
    assert read_values(read["b"]).tolist() == [7, -8]


def test_chunks_are_the_whole_tensor_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "CHUNK", 4)
    values = np.arange(10, dtype=np.float32)
    write_safetensors(tmp_path / "model.safetensors", {"a": bf16(values)})
    pieces = list(chunks(read_tensors(tmp_path)["a"]))
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(pieces), values)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_first_not_finite_names_the_tensor(tmp_path: Path, number: float) -> None:
    sound = np.ones((2, 2), dtype=np.float32)
    broken = sound.copy()
    broken[1, 1] = number
    write_safetensors(tmp_path / "model.safetensors", {"a": sound, "b": np.array([1]), "c": bf16(broken)})
    read = read_tensors(tmp_path)
    assert first_not_finite(read) == "c"
    assert first_not_finite({"a": read["a"], "b": read["b"]}) is None


def test_first_dead_names_a_matrix_of_zeros_and_no_vector(tmp_path: Path) -> None:
    sparse = np.zeros((4, 4), dtype=np.float32)
    sparse[3, 3] = 1
    dead = np.zeros((4, 4), dtype=np.float32)
    write_safetensors(tmp_path / "model.safetensors", {"norm": dead[0], "a": sparse, "b": dead})
    read = read_tensors(tmp_path)
    assert first_dead(read) == "b"
    assert first_dead({"norm": read["norm"], "a": read["a"]}) is None
