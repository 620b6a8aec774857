"""Write an artifact volume as the stages do, with plots of a few pixels."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

from support.serving.word_engine import CONFIG
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.results import (
    DataFacts,
    EngineFigures,
    EvaluationResult,
    HeldOutFigures,
    Metrics,
    StageResult,
    TrainingResult,
)
from toxicity_api.stage_config import ServingConfig

METRICS = Metrics(
    f1=0.896,
    macro_f1=0.921,
    precision=0.885,
    recall=0.907,
    roc_auc=0.977,
    threshold=0.5,
    test_samples=1441,
    f1_low=0.876,
    f1_high=0.915,
)
DATA = DataFacts(rows=14412, toxic=4826, duplicates=261, contradictions=3, split_hash="ab" * 32)
FORUM = HeldOutFigures(
    name="forum", rows=210, left_out=4, f1=0.701, f1_low=0.652, f1_high=0.753, macro_f1=0.714, macro_f1_low=0.66,
    macro_f1_high=0.76, roc_auc=0.823, original_f1=0.722,
)  # fmt: skip
LOAD = LoadTestStatus(
    fingerprint="l2",
    run_id="2",
    state="Complete",
    users=16,
    requested_rps=10,
    buckets=[BucketResult(name="1-100", requests=300, failures=0, actual_rps=9.998, p95_seconds=0.181)],
)


def png(red: int) -> bytes:
    """Return a PNG of 40 x 30 pixels in one colour."""
    rows = (b"\0" + bytes((red, 80, 160)) * 40) * 30

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def evaluation(f1: float) -> bytes:
    """Return the part of an evaluation document that the page reads."""
    bucket = {"name": "1-100", "low": 1, "high": 100, "rows": 720, "toxic": 313, "f1": f1, "precision": 0.9}
    error = {"error": "missed", "score": f1 / 10, "toxic": True, "suspicious": False, "characters": 26}
    errors = [{**error, "confidence": 0.8, "text": "<b>ну и</b> умник нашёлся"}]
    buckets = [bucket, {**bucket, "name": "101-200", "rows": 0}]
    return json.dumps({"metrics": {}, "buckets": buckets, "errors": errors}).encode()


def stage_folders(artifacts: Path) -> ServingConfig:
    """Write the folders of training, quantization and a load test. Returns the configuration of a service for them."""
    training = TrainingResult(metrics=METRICS, train_samples=11530, loss=0.1, duration_seconds=60, data=DATA)
    result = StageResult(stage="train", fingerprint="t1", outcome="succeeded", training=training)
    train, quantize, load = artifacts / "train-t1", artifacts / "quantize-q1", artifacts / "loadtest-l2"
    evaluate = artifacts / "evaluate-e1"
    speed = EngineFigures(weights="native-4bit", load_seconds=40.0, texts_per_second=25.0, memory_bytes=4 << 30)
    measured = EvaluationResult(
        engine="vllm", metrics=METRICS, figures=speed, test_sets=[FORUM], duration_seconds=90.0
    )
    evaluated = StageResult(stage="evaluate", fingerprint="e1", outcome="succeeded", evaluation=measured)
    write(evaluate / "result.json", evaluated.model_dump_json(by_alias=True).encode())
    write(train / "result.json", result.model_dump_json(by_alias=True).encode())
    for name in ("eda/labels.png", "eda/labels_len.png", "evaluation/pr_curve.png"):
        write(train / name, png(10))
    write(train / "evaluation" / "evaluation.json", evaluation(0.896))
    write(quantize / "evaluation" / "pr_curve.png", png(20))
    write(quantize / "evaluation" / "evaluation.json", evaluation(0.893))
    write(load / "status.json", LOAD.model_dump_json(by_alias=True, exclude_none=True).encode())
    write(load / "p95.png", png(30))
    return CONFIG.model_copy(
        update={
            "artifacts": artifacts,
            "report_dirs": [train, quantize, evaluate],
            "metrics": METRICS,
            "base_model": "gemma",
        }
    )
