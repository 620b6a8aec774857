"""A stage whose artifacts are in an object store: the entry point downloads, runs, uploads and reports."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.store.artifacts import make_folder
from support.store.server import SECRET, S3Server, spec_of, write_secret
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_api.spec import QuantizationSpec, TrainingSpec
from toxicity_api.spec.sources import Split
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, QuantizationConfig, Retention, TrainingConfig
from toxicity_stage.artifacts import exit_code, open_work_folder, publish
from toxicity_stage.entry import Entry, run_stage
from toxicity_stage.errors import CRASHED
from toxicity_store.artifacts import BucketStore
from toxicity_store.checkpoints import save, stored_steps
from toxicity_store.errors import ScratchFull, StoreUnavailable
from toxicity_training.engines.checkpoints import (
    checkpoint_folder,
    last_checkpoint,
    mark_complete,
    open_checkpoints,
)

SECONDS = 20.0


def no_gpus(config: object) -> int:
    return 0


class Node:
    """One node: the stages that run on it share no folder with those of another node."""

    def __init__(self, folder: Path, server: S3Server, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.artifacts, self.log, self._set = folder / "artifacts", folder / "termination-log", monkeypatch.setenv
        self.artifacts.mkdir(parents=True)
        self.store = spec_of(server.endpoint)
        self._options = ["--termination-log", str(self.log), "--object-store-secrets", str(secrets)]

    def train(
        self,
        work: Callable[[TrainingConfig], StageResult],
        fingerprint: str = "abc",
        retention: Retention | None = None,
    ) -> int:
        config = TrainingConfig(
            model="m",
            fingerprint=fingerprint,
            owner="uid-of-m",
            retention=retention,
            artifacts=self.artifacts,
            dataset_path=Path("c.csv"),
            text_column="comment",
            label_column="toxic",
            split=Split(),
            base_model_path=Path("base"),
            training=TrainingSpec(gpus=0),
            object_store=self.store,
        )
        self._set(STAGE_CONFIG_VARIABLE, config.model_dump_json(by_alias=True))
        failed = StageResult(stage="train", fingerprint="", outcome="failed")
        entry = Entry(
            "toxicity_training", "training", TrainingConfig, failed, CRASHED, work, "training.gpus", no_gpus
        )
        return run_stage(entry, self._options)

    def quantize(self, work: Callable[[QuantizationConfig], StageResult]) -> int:
        config = QuantizationConfig(
            model="m",
            fingerprint="def",
            artifacts=self.artifacts,
            training_fingerprint="abc",
            training=TrainingSpec(gpus=0),
            quantization=QuantizationSpec(gpus=0),
            object_store=self.store,
        )
        self._set(STAGE_CONFIG_VARIABLE, config.model_dump_json(by_alias=True))
        failed = StageResult(stage="quantize", fingerprint="", outcome="failed")
        entry = Entry(
            "toxicity_quantization", "quantization", QuantizationConfig, failed, "QuantizationCrashed", work,
            "quantization.gpus", no_gpus,
        )  # fmt: skip
        return run_stage(entry, self._options)

    @property
    def result(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.log.read_text())
        return found


@pytest.fixture
def node(
    server: S3Server, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Node]:
    return lambda name: Node(tmp_path / name, server, secrets, monkeypatch)


def train(config: TrainingConfig, text: str = "weights") -> StageResult:
    """A training that writes one file."""
    work = open_work_folder(config.output_dir)
    (work / "model").mkdir()
    (work / "model" / "weights").write_text(text)
    result = StageResult(stage="train", fingerprint=config.fingerprint, outcome="succeeded")
    return publish(work, config.output_dir, result)


def stored_sizes(result: dict[str, object]) -> dict[str, int]:
    storage = result["storage"]
    assert isinstance(storage, dict) and storage.get("freeBytes") is None
    return {folder["name"]: folder["sizeBytes"] for folder in storage["folders"]}


def test_stage_removes_old_results_before_its_work_and_reports_what_is_stored(
    node: Callable[[str], Node], server: S3Server
) -> None:
    def seen_by_the_work(config: TrainingConfig) -> StageResult:
        stored.append({path.partition("/")[0] for path in server.files()})
        return train(config)

    stored: list[set[str]] = []
    (server.bucket / "team" / "train-000").mkdir(parents=True)
    (server.bucket / "team" / "train-000" / "of-another").touch()
    retention = Retention(keep=["train-fed"], versions=1)
    assert node("a").train(seen_by_the_work) == 0
    other = node("b")
    assert other.train(seen_by_the_work, "fed", retention) == 0
    assert stored == [{"train-000"}, {"train-000"}], "train-abc had gone"
    sizes = stored_sizes(other.result)
    assert sizes.keys() == {"train-fed"}
    assert sizes["train-fed"] == sum(
        path.stat().st_size for path in (other.artifacts / "train-fed").rglob("*") if path.is_file()
    )


def copy_weights(config: QuantizationConfig) -> StageResult:
    """A quantization that copies the weights of the training."""
    work = open_work_folder(config.output_dir)
    (work / "model").mkdir()
    shutil.copy2(config.input_dir / "model" / "weights", work / "model" / "weights")
    return publish(work, config.output_dir, StageResult(stage="quantize", fingerprint="def", outcome="succeeded"))


def never(config: object) -> StageResult:
    raise AssertionError("the stage must not run")


def test_next_stage_reads_the_artifact_on_another_node(node: Callable[[str], Node]) -> None:
    assert node("a").train(train) == 0
    second = node("b")
    assert second.quantize(copy_weights) == 0
    assert (second.artifacts / "quantize-def" / "model" / "weights").read_text() == "weights"
    assert second.result["outcome"] == "succeeded"


def test_published_stage_is_reported_and_does_not_run_again(node: Callable[[str], Node]) -> None:
    assert node("a").train(train) == 0
    second = node("b")
    assert second.train(never) == 0
    assert second.result["outcome"] == "succeeded"


def test_missing_input_names_the_field_that_makes_it_again(node: Callable[[str], Node]) -> None:
    alone = node("a")
    assert alone.quantize(never) == EXIT_INVALID_INPUT
    assert alone.result["reason"] == "ArtifactMissing"
    assert "spec.training.runId" in str(alone.result["message"])


def test_wrong_credentials_fail_before_the_work_and_are_not_printed(
    node: Callable[[str], Node], secrets: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = node("a")
    write_secret(secrets, AWS_ACCESS_KEY_ID="another-account")
    assert first.train(never) == EXIT_INVALID_INPUT
    assert first.result["reason"] == "StoreAccessDenied"
    printed = capfd.readouterr()
    for text in (printed.out, printed.err, first.log.read_text(), str(os.environ)):
        assert SECRET not in text


def test_upload_that_fails_is_a_failure_of_the_stage(node: Callable[[str], Node], server: S3Server) -> None:
    def train_and_lose_the_bucket(config: TrainingConfig) -> StageResult:
        result = train(config)
        server.bucket.rename(server.bucket.with_name("gone"))
        return result

    first = node("a")
    assert first.train(train_and_lose_the_bucket) == EXIT_INVALID_INPUT
    assert first.result["reason"] == "BucketMissing"
    server.bucket.mkdir()
    assert node("b").train(train) == 0


def test_store_that_does_not_answer_is_retried_by_the_job() -> None:
    assert exit_code(StoreUnavailable("StoreUnavailable", "no answer")) == EXIT_FAILED
    assert exit_code(ScratchFull("ScratchFull", "too large")) == EXIT_INVALID_INPUT


def test_slower_attempt_reports_the_artifact_of_the_faster_one(
    node: Callable[[str], Node], store: BucketStore, tmp_path: Path
) -> None:
    def train_too_late(config: TrainingConfig) -> StageResult:
        assert node("b").train(lambda other: train(other, "faster")) == 0
        return train(config, "slower")

    first = node("a")
    assert first.train(train_too_late) == 0
    store.fetch(tmp_path / "c" / "train-abc")
    assert (tmp_path / "c" / "train-abc" / "model" / "weights").read_text() == "faster"


def test_training_resumes_on_another_node(
    node: Callable[[str], Node], store: BucketStore, wait_for: Callable[..., object]
) -> None:
    def write_checkpoint_and_die(config: TrainingConfig) -> StageResult:
        checkpoint = checkpoint_folder(open_checkpoints(config.output_dir), 20)
        checkpoint.mkdir()
        (checkpoint / "state").write_text("twenty")
        mark_complete(checkpoint)
        wait_for("the upload", lambda: stored_steps(store, "train-abc") == [20], SECONDS)
        raise RuntimeError("the node is lost")

    def resume(config: TrainingConfig) -> StageResult:
        newest = last_checkpoint(open_checkpoints(config.output_dir))
        assert newest is not None and (newest / "state").read_text() == "twenty"
        return train(config)

    assert node("a").train(write_checkpoint_and_die) == EXIT_FAILED
    assert node("b").train(resume) == 0
    assert stored_steps(store, "train-abc") == [], "a published stage needs no checkpoints"


def test_unusable_checkpoint_does_not_stop_the_training(
    node: Callable[[str], Node], store: BucketStore, server: S3Server, tmp_path: Path
) -> None:
    for step in (10, 20):
        checkpoint = make_folder(tmp_path / f"checkpoint-{step}", step, large=10)
        mark_complete(checkpoint)
        save(store, "train-abc", checkpoint)
    damaged = next(
        path for path in server.files() if "checkpoint-20" in path and path.endswith("weights.safetensors")
    )
    (server.bucket / "team" / damaged).write_bytes(b"x")

    def resume(config: TrainingConfig) -> StageResult:
        newest = last_checkpoint(open_checkpoints(config.output_dir))
        assert newest is not None and newest.name == "checkpoint-10"
        return train(config)

    assert node("a").train(resume) == 0
