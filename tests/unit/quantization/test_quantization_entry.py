"""The entry point of the quantization stage leaves a result document in every case that needs no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toxicity_api.results import EXIT_INVALID_INPUT
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE
from toxicity_quantization.__main__ import main


def test_a_missing_training_stage_fails_for_good_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {
        "model": "m",
        "fingerprint": "def",
        "artifacts": str(tmp_path),
        "trainingFingerprint": "abc",
        "training": {"gpus": 0},
        "quantization": {"gpus": 0},
    }
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, json.dumps(document))
    assert main(["--termination-log", str(tmp_path / "log")]) == EXIT_INVALID_INPUT
    written = json.loads((tmp_path / "log").read_text(encoding="utf-8"))
    assert (written["stage"], written["fingerprint"], written["reason"]) == ("quantize", "def", "InputMissing")
    assert "train-abc" in written["message"]
