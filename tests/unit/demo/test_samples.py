"""The samples are valid resources, and the demo fills in the images of this build."""

from __future__ import annotations

import csv

import pytest
import yaml

from support.e2e.scenario import small_gpu_model
from toxicity_api.spec import NodeCache, ToxicityModelSpec
from toxicity_cluster.demo_install import (
    CHART_IMAGES,
    SAMPLE_DATASET,
    SAMPLES,
    chart_values,
    dataset_file_name,
    load_sample,
    with_images,
)

IMAGES = {"dataset": "registry.example/d:1", "base-model": "registry.example/b:2"}


@pytest.mark.parametrize("name", ["minimal", "cpu", "gpu", "object-store"])
def test_sample_is_a_valid_spec(name: str) -> None:
    sample = load_sample(name)
    spec = ToxicityModelSpec.model_validate(sample["spec"])
    assert sample["kind"] == "ToxicityModel"
    assert (spec.training.gpus, spec.serving.gpus) == ((1, 1) if name == "gpu" else (0, 0))


def test_the_gpu_sample_needs_one_gpu_and_nothing_that_a_device_plugin_does_not_bring() -> None:
    spec = ToxicityModelSpec.model_validate(load_sample("gpu")["spec"])
    stages = (spec.training, spec.quantization, spec.serving)
    assert [stage.gpus for stage in stages] == [1, 1, 1]
    assert not any(stage.node_selector for stage in stages)  # labels come from feature discovery
    assert (spec.serving.strategy, spec.serving.replicas, spec.serving.autoscaling) == ("Recreate", 1, None)
    assert spec.serving.kv_cache_dtype == "auto"  # fp8 needs Ada or later
    assert spec.training.gradient_checkpointing  # 5 of 24 GB instead of 23
    assert spec.storage.access_modes == ["ReadWriteOnce"]


def test_the_object_store_sample_names_no_volume() -> None:
    storage = ToxicityModelSpec.model_validate(load_sample("object-store")["spec"]).storage
    assert storage.object_store is not None and storage.object_store.secret_name == "model-store"
    assert not storage.makes_claim and storage.size == "20Gi"


def test_the_cache_sample_is_a_claim_bound_to_a_volume_of_all_nodes() -> None:
    volume, claim = yaml.safe_load_all((SAMPLES / "node-cache.yaml").read_text(encoding="utf-8"))
    assert volume["spec"]["claimRef"] == {key: claim["metadata"][key] for key in ("namespace", "name")}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    for field in ("storageClassName", "accessModes"):
        assert claim["spec"][field] == volume["spec"][field]
    assert claim["spec"]["resources"]["requests"] == volume["spec"]["capacity"]
    comment = next(
        line for line in (SAMPLES / "node-cache.yaml").read_text().splitlines() if "nodeCache: {" in line
    )
    asked = yaml.safe_load(comment.removeprefix("#").strip())["storage.nodeCache"]
    cache = NodeCache.model_validate(asked)
    assert cache.claim_name == claim["metadata"]["name"] and cache.size == volume["spec"]["capacity"]["storage"]


@pytest.mark.parametrize("name", ["minimal", "cpu", "object-store"])
def test_images_take_the_place_of_the_sample_references(name: str) -> None:
    sample = load_sample(name)
    spec = with_images(sample, IMAGES, "comments.csv.gz")["spec"]
    assert spec["dataset"]["image"] == {"reference": "registry.example/d:1", "path": "/dataset/comments.csv.gz"}
    assert spec["baseModel"]["image"] == {"reference": "registry.example/b:2", "path": "/model"}
    assert sample == load_sample(name)


def test_pull_secrets_are_named_in_the_resource_and_in_the_chart() -> None:
    spec = with_images(load_sample("cpu"), IMAGES, "comments.csv", ["mine", "mirror"])["spec"]
    assert ToxicityModelSpec.model_validate(spec).images.pull_secrets == ["mine", "mirror"]
    values = chart_values({part: f"registry.example/{part}:1" for part in CHART_IMAGES}, ["mine", "mirror"])
    assert values["imagePullSecrets"] == [{"name": "mine"}, {"name": "mirror"}]


def test_dataset_keeps_its_compression_in_its_name() -> None:
    assert dataset_file_name(SAMPLE_DATASET) == "comments.csv"
    assert dataset_file_name(SAMPLE_DATASET.with_suffix(".csv.gz")) == "comments.csv.gz"


def test_sample_data_set_is_balanced_and_without_duplicates() -> None:
    with SAMPLE_DATASET.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = ["".join(c for c in row["comment"].lower() if c.isalnum()) for row in rows]
    assert len(set(texts)) == len(rows) >= 300
    share = sum(row["toxic"] == "1" for row in rows) / len(rows)
    assert 0.35 < share < 0.5
    assert {row["toxic"] for row in rows} == {"0", "1"}
    lengths = [len(row["comment"]) for row in rows]
    assert min(lengths) < 15 and max(lengths) > 350


def test_gpu_loop_is_the_gpu_sample_made_smaller() -> None:
    images = {part: f"registry.example/{part}:1" for part in ("base-model", "dataset")}
    small = ToxicityModelSpec.model_validate(small_gpu_model("tiny", "comments", images)["spec"])
    sample = ToxicityModelSpec.model_validate(load_sample("gpu")["spec"])
    for spec in (small, sample):
        assert [spec.training.gpus, spec.quantization.gpus, spec.serving.gpus] == [1, 1, 1]
    assert small.base_model.image is not None and small.base_model.image.reference == images["base-model"]
    assert small.training.max_samples == 300
    same = ("loads_4bit", "engine", "lora", "tolerations", "batch_size")
    assert [getattr(small.training, field) for field in same] == [
        getattr(sample.training, field) for field in same
    ]
    assert (small.serving.strategy, small.serving.replicas) == (sample.serving.strategy, sample.serving.replicas)
