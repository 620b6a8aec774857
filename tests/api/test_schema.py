"""The schema refuses what makes no sense, with a sentence that names the field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, utils
from kubernetes.client.exceptions import ApiException

from support.builders import ModelBuilder, a_model
from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_operator.model import read_model

pytestmark = pytest.mark.api

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
Create = Callable[[ModelBuilder], dict[str, Any]]


def documents(sample: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SAMPLES / sample).read_text(encoding="utf-8")))


NAMES = sorted(path.name for path in SAMPLES.glob("*.yaml"))
MODELS = [name for name in NAMES if documents(name)[0]["kind"] == KIND]


@pytest.mark.parametrize("sample", sorted(set(NAMES) - set(MODELS)))
def test_objects_of_a_sample_without_a_model_are_accepted(
    sample: str, api_client: client.ApiClient, namespace: str
) -> None:
    strict = {"dry_run": "All", "field_validation": "Strict"}
    made = utils.create_from_yaml(api_client, str(SAMPLES / sample), namespace=namespace, **strict)
    assert [item.kind for (item,) in made] == [document["kind"] for document in documents(sample)]


@pytest.mark.parametrize("sample", MODELS)
def test_sample_is_accepted_and_means_the_same_to_the_operator(sample: str, create: Create) -> None:
    (raw,) = documents(sample)
    stored = create(ModelBuilder(spec=raw["spec"]))
    raw["metadata"] = stored["metadata"]
    assert read_model(stored).spec == read_model(raw).spec, "the server's defaults are the models' defaults"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("training.learningRat", 1e-4, ["spec.training.learningRat"]),
        ("quantization.method", "gptq", ["spec.quantization.method", "awq"]),
        ("quantization.bits", 8, ["spec.quantization.bits"]),
        ("training.epochs", 0, ["spec.training.epochs"]),
        ("training.epochs", "many", ["spec.training.epochs", "number"]),
        ("training.lora.r", 0, ["spec.training.lora.r"]),
        ("training.engine", "accelerate", ["spec.training.engine", "trainer"]),
        ("training.maxInputLength", 8, ["spec.training.maxInputLength", "from 16 to 8192, or auto"]),
        ("training.maxInputLength", "long", ["spec.training.maxInputLength", "from 16 to 8192, or auto"]),
        ("training.promptTemplate", "no place", ["spec.training.promptTemplate"]),
        ("training.resources.limits.memory", "8 Gigs", ["spec.training.resources.limits.memory"]),
        ("dataset.split.test", 0.5, ["spec.dataset.split.test"]),
        ("dataset.image.path", "relative", ["spec.dataset.image.path"]),
        ("serving.autoscaling", {"minReplicas": 3, "maxReplicas": 2}, ["spec.serving.autoscaling", "minReplicas"]),
        ("serving.autoscaling", {"metric": "inFlight"}, ["spec.serving.autoscaling", "needs prometheusAddress"]),
        (
            "serving.autoscaling",
            {"metric": "inFlight", "prometheusAddress": "prometheus:9090"},
            ["spec.serving.autoscaling.prometheusAddress"],
        ),
        ("serving.autoscaling.metric", "rps", ["spec.serving.autoscaling.metric", "inFlight"]),
        ("serving", {"replicas": 1, "autoscaling": {}}, ["spec.serving", "exclude each other"]),
        ("dataset.configMap", {"name": "a", "key": "b"}, ["spec.dataset", "exactly one source"]),
        ("dataset.image", None, ["spec.dataset", "exactly one source"]),
        ("dataset.huggingFace", {"repo": "a/b"}, ["spec.dataset", "exactly one source"]),
        (
            "dataset",
            {"huggingFace": {"repo": "a/b"}, "kaggle": {"dataset": "a/b", "file": "c.csv"}},
            ["spec.dataset", "exactly one source"],
        ),
        ("dataset", {"huggingFace": {"repo": "name"}}, ["spec.dataset.huggingFace.repo"]),
        ("dataset", {"kaggle": {"dataset": "https://a/b", "file": "c.csv"}}, ["spec.dataset.kaggle.dataset"]),
        ("dataset", {"kaggle": {"dataset": "a/b", "file": "../.."}}, ["spec.dataset.kaggle.file"]),
        ("dataset", {"kaggle": {"dataset": "a/b"}}, ["spec.dataset.kaggle.file", "Required"]),
        ("baseModel.image", None, ["spec.baseModel", "exactly one source"]),
        ("dataset", None, ["spec.dataset", "Required"]),
        ("loadTest.gpus", 1, ["spec.loadTest.gpus"]),
        ("loadTest", {"profile": "original", "workers": 17}, ["spec.loadTest", "workers must not be above users"]),
        ("loadTest", {"profile": "original", "users": 64}, ["spec.loadTest", "set loadTest.profile to openLoop"]),
        ("loadTest", {"profile": "original", "arrivals": "poisson"}, ["spec.loadTest", "profile original"]),
        ("loadTest", {"maxOpenRequests": 1, "workers": 2}, ["spec.loadTest", "maxOpenRequests must not be below"]),
        (
            "loadTest",
            {"trace": {"name": "a", "key": "b"}, "bursts": {}},
            ["spec.loadTest", "remove loadTest.trace"],
        ),
        (
            "loadTest",
            {"route": "perspective", "textsPerRequest": 2},
            ["spec.loadTest", "set loadTest.textsPerRequest"],
        ),
        ("loadTest", {"bucketUnit": "tokens", "maxLength": 5000}, ["spec.loadTest", "lower loadTest.maxLength"]),
        ("loadTest.textsPerRequest", 65, ["spec.loadTest.textsPerRequest"]),
        ("loadTest.bursts", {"share": 1}, ["spec.loadTest.bursts.share"]),
        ("loadTest.maxLength", 20_001, ["spec.loadTest.maxLength", "20000"]),
        ("loadTest", {"maxLength": 20_000, "bucketStep": 99}, ["spec.loadTest", "raise loadTest.bucketStep"]),
        ("loadTest.bucketStep", 5, ["spec.loadTest", "more than 200 buckets"]),
        ("loadTest.bucketStep", 0, ["spec.loadTest.bucketStep"]),
        ("loadTest.slo", {"rps": 10.5}, ["spec.loadTest", "raise loadTest.requestedRps to slo.rps"]),
        ("loadTest", {"requestedRps": 1, "slo": {"rps": 2}}, ["spec.loadTest", "loadTest.mode to search"]),
        ("loadTest.schedule", "@daily", ["spec.loadTest.schedule"]),
        ("serving.progressDeadlineSeconds", 1, ["spec.serving.progressDeadlineSeconds"]),
        ("qualityGate.acceptInconclusive", "", ["spec.qualityGate.acceptInconclusive"]),
        ("quantization.backend", "gptq", ["spec.quantization.backend", "autoawq"]),
    ],
)
def test_nonsense_is_refused_by_name(path: str, value: Any, words: list[str], create: Create) -> None:
    with pytest.raises(ApiException) as refusal:
        create(a_model().with_spec(path, value))
    assert refusal.value.status in (400, 422)
    for word in words:
        assert word in refusal.value.body


@pytest.mark.parametrize(
    "fields",
    [
        {"maxLength": 20_000, "bucketStep": 100},
        {"maxLength": 200, "bucketStep": 1},
        {"maxLength": 1, "bucketStep": 20_000},
        {"slo": {"rps": 10}},
        {"requestedRps": 2.5, "slo": {"rps": 2.5}},
        {"slo": {"rps": 11}, "mode": "search"},
        {"profile": "original", "workers": 16},
        {"trace": {"name": "a", "key": "b"}, "workers": 17},
        {"arrivals": "uniform", "bursts": {"share": 0.5}, "maxOpenRequests": 1},
    ],
)
def test_load_test_at_its_bounds_is_accepted(fields: dict[str, Any], create: Create) -> None:
    made = create(a_model().with_spec("loadTest", fields))["spec"]["loadTest"]
    wanted = {name: made[name] | value if isinstance(value, dict) else value for name, value in fields.items()}
    assert made | wanted == made


@pytest.mark.parametrize("name", ["x" * 41, "1st", "with.dot"])
def test_name_that_its_children_could_not_carry_is_refused(name: str, create: Create) -> None:
    with pytest.raises(ApiException) as refusal:
        create(ModelBuilder(name=name))
    assert "metadata.name must have at most 40 characters" in refusal.value.body


def test_longest_name_is_accepted(create: Create) -> None:
    assert create(ModelBuilder(name="x" * 40))["metadata"]["name"] == "x" * 40


@pytest.mark.parametrize(
    ("path", "value", "refused"),
    [
        ("storage", {"size": "1Gi"}, True),
        ("baseModel", {"huggingFace": {"repo": "a/b"}}, False),
        ("dataset.image.reference", "other:2", False),
        ("dataset", {"huggingFace": {"repo": "a/b", "file": "data/c.csv.gz"}}, False),
        ("dataset", {"kaggle": {"dataset": "a/b", "file": "c.csv", "secretName": "kaggle"}}, False),
        ("training.learningRate", 1e-4, False),
        ("training.maxInputLength", "auto", False),
        ("loadTest.runId", "2", False),
    ],
)
def test_everything_but_the_volume_can_be_changed(
    path: str, value: Any, refused: bool, create: Create, api_client: Any, namespace: str
) -> None:
    stored = create(a_model())
    changed = a_model().with_spec(path, value).raw()
    changed["metadata"] = stored["metadata"]
    api = client.CustomObjectsApi(api_client)
    arguments = (API_GROUP, API_VERSION, namespace, PLURAL, "ru-toxicity", changed)
    if not refused:
        assert api.replace_namespaced_custom_object(*arguments)["metadata"]["generation"] == 2
        return
    with pytest.raises(ApiException) as refusal:
        api.replace_namespaced_custom_object(*arguments)
    assert "storage cannot be changed" in refusal.value.body
