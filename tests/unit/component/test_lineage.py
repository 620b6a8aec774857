"""The lineage names what the served model was made of, each part in the field of its name: state in, state out."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import ModelBuilder, a_model, metrics
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import drive, settle, status
from toxicity_api.results import DataFacts, SourceFacts, StageResult, TrainingResult
from toxicity_operator import names

HUB = {"huggingFace": {"repo": "owner/comments", "revision": "v2"}}
HUB_MODEL = {"huggingFace": {"repo": "owner/gemma", "revision": "v1"}}
FACTS = DataFacts(rows=90, toxic=30, duplicates=2, contradictions=1, split_hash="ab" * 32)
SOURCES = SourceFacts(dataset_commit="commit-of-data", base_model_commit="commit-of-model")


def trained(model: ModelBuilder, sources: SourceFacts | None = SOURCES) -> FakeCluster:
    """A cluster in which the training has succeeded; its copies of images have digests."""
    cluster = drive(model, 0)
    fingerprint = cluster.job("train")["metadata"]["labels"][names.FINGERPRINT_LABEL]
    training = TrainingResult(
        metrics=metrics(), train_samples=800, loss=0.31, duration_seconds=61.5, data=FACTS, sources=sources
    )
    result = StageResult(stage="train", fingerprint=fingerprint, outcome="succeeded", training=training)
    cluster.finish_job("train", result)
    (pod,) = cluster.names_of("Pod")
    cluster.objects["Pod", pod]["status"]["initContainerStatuses"] = [
        {"name": name, "imageID": f"registry/{name}@sha256:{name}", "ready": True, "state": {}}
        for name in ("dataset", "base-model")
    ]
    settle(cluster)
    return cluster


def lineage(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = status(cluster)["lineage"]
    return found


def test_sources_from_the_hub_are_named_by_their_commits() -> None:
    found = lineage(trained(a_model().with_spec("dataset", HUB).with_spec("baseModel", HUB_MODEL)))
    assert "owner/comments" in found["dataset"] and "owner/gemma" in found["baseModel"]
    assert (found["datasetRevision"], found["baseModelRevision"]) == ("commit-of-data", "commit-of-model")
    assert found["splitHash"] == "ab" * 32


def test_sources_from_images_are_named_by_their_digests() -> None:
    found = lineage(trained(a_model(), None))
    assert "dataset-image:1" in found["dataset"] and "base-model-image:1" in found["baseModel"]
    assert found["datasetRevision"].endswith("sha256:dataset")
    assert found["baseModelRevision"].endswith("sha256:base-model")


@pytest.mark.parametrize(
    ("field", "source", "revisions"),
    [
        ("dataset", HUB, ("commit-of-data", "sha256:base-model")),
        ("baseModel", HUB_MODEL, ("sha256:dataset", "commit-of-model")),
    ],
)
def test_each_source_has_the_revision_of_its_kind(
    field: str, source: dict[str, Any], revisions: tuple[str, str]
) -> None:
    found = lineage(trained(a_model().with_spec(field, source)))
    assert found["datasetRevision"].endswith(revisions[0])
    assert found["baseModelRevision"].endswith(revisions[1])


def test_what_is_not_known_yet_is_left_out() -> None:
    found = lineage(drive(a_model(), 0))
    assert set(found) == {"dataset", "baseModel", "revision"}


def test_calibration_and_engine_come_with_their_stages() -> None:
    cluster = trained(a_model())
    assert "calibrationHash" not in lineage(cluster)
    cluster.finish_quantization()
    settle(cluster)
    assert lineage(cluster)["calibrationHash"] == "5a" * 32
    assert "engine" not in lineage(cluster)
    cluster.finish_evaluation()
    settle(cluster)
    assert lineage(cluster)["engine"] == "vllm 0.32.0"


@pytest.mark.parametrize(("method", "stage"), [("awq", "quantization"), ("none", "training")])
def test_revision_is_the_fingerprint_of_the_stage_that_made_the_weights(method: str, stage: str) -> None:
    cluster = trained(a_model().with_spec("quantization.method", method))
    if method == "awq":
        cluster.finish_quantization()
        settle(cluster)
    assert lineage(cluster)["revision"] == status(cluster)[stage]["fingerprint"]
