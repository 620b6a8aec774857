"""Which stages get a new fingerprint, and so run again, after which change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import SETTINGS, ModelBuilder, a_model
from toxicity_operator.chain import Chain, build_chain, references
from toxicity_operator.settings import Images


def chain(model: ModelBuilder) -> Chain:
    return build_chain(model.build(), SETTINGS)


def prints(found: Chain) -> dict[str, str]:
    assert found.quantize and found.loadtest
    return {
        "train": found.train.fingerprint,
        "quantize": found.quantize.fingerprint,
        "evaluate": found.evaluate.fingerprint,
        "serve": found.serving_fingerprint,
        "loadtest": found.loadtest.fingerprint,
    }


ALL = ["train", "quantize", "evaluate", "serve", "loadtest"]


@pytest.mark.parametrize(
    ("path", "value", "changed"),
    [
        ("training.learningRate", 1e-4, ALL),
        ("training.gpus", 1, ALL),
        ("dataset.textColumn", "text", ALL),
        ("dataset.image.reference", "dataset-image:2", ALL),
        ("baseModel.image.reference", "base-model-image:2", ALL),
        ("images.training", "mine:1", []),
        ("training.runId", "2", ALL),
        ("quantization.runId", "2", ALL[1:]),
        ("quantization.calibrationSamples", 64, ALL[1:]),
        ("images.quantization", "mine:1", []),
        ("serving.maxModelLen", 256, ALL[2:]),
        ("serving.kvCacheDtype", "fp8", ALL[2:]),
        ("serving.enforceEager", True, ALL[2:]),
        ("serving.longTexts", "truncate", ALL[2:]),
        ("serving.queueLimit", 8, ALL[3:]),
        ("serving.resources.limits.cpu", 1, ALL[3:]),
        ("serving.threshold", 0.25, ALL[3:]),
        ("serving.maxNumSeqs", 8, ALL[3:]),
        ("images.serving", "mine:1", ALL[2:]),
        ("loadTest.requestedRps", 5.0, ALL[4:]),
        ("loadTest.runId", "2", ALL[4:]),
        ("images.loadtest", "mine:1", []),
        ("images.pullSecrets", ["registry"], ["serve"]),
        ("serving.nodeSelector", {"a": "b"}, ALL[3:]),
        ("serving.tolerations", [{"operator": "Exists"}], ["serve"]),
        ("serving.startSeconds", 1200, ["serve"]),
        ("serving.http", {"corsOrigins": ["https://forum.example"]}, ["serve"]),
        ("loadTest.schedule", "0 3 * * *", []),
        ("loadTest.pinReplicas", True, []),
        ("serving.replicas", 3, []),
        ("serving.autoscaling", {"maxReplicas": 3}, []),
        ("serving.strategy", "Recreate", []),
        ("serving.progressDeadlineSeconds", 60, []),
        ("evaluation.backoffLimit", 0, []),
        ("images.quantizationAutoawq", "mine:1", []),
        ("qualityGate.minF1", 0.1, []),
        ("qualityGate.metric", "macroF1", ALL[2:]),
        ("evaluation.threshold.minPrecision", 0.9, ALL[2:]),
        ("training.augmentation.share", 0.5, ALL),
        ("storage.size", "1Gi", []),
        ("training.backoffLimit", 5, []),
        ("training.tracking", {"tensorBoard": True, "mlflow": {"trackingUri": "http://mlflow:5000"}}, []),
        ("training.resources.limits.memory", "1Gi", []),
        ("training.nodeSelector", {"a": "b"}, []),
        ("loadTest.activeDeadlineSeconds", 100, []),
    ],
)
def test_change_runs_again_what_depends_on_it_and_nothing_else(path: str, value: Any, changed: list[str]) -> None:
    before, after = prints(chain(a_model())), prints(chain(a_model().with_spec(path, value)))
    assert [stage for stage in ALL if before[stage] != after[stage]] == changed


def test_the_gate_s_metric_chooses_the_threshold_unless_the_evaluation_names_one() -> None:
    named = a_model().with_spec("evaluation.threshold.maximize", "macroF1")
    assert prints(chain(named)) == prints(chain(a_model().with_spec("qualityGate.metric", "macroF1")))
    assert prints(chain(named)) == prints(chain(named.with_spec("qualityGate.metric", "macroF1")))


def test_default_written_out_is_the_default_left_out() -> None:
    written = (
        a_model()
        .with_spec("training.epochs", 1.0)
        .with_spec("loadTest.users", 16)
        .with_spec("serving.replicas", 1)
    )
    assert prints(chain(written)) == prints(chain(a_model()))
    whole = a_model().build().spec.to_wire()
    assert prints(chain(ModelBuilder(spec=whole))) == prints(chain(a_model()))


def test_placement_changes_the_jobs_name_but_not_the_fingerprint() -> None:
    before = chain(a_model()).train
    after = chain(a_model().with_spec("training.resources.limits.memory", "1Gi")).train
    assert before.fingerprint == after.fingerprint
    assert before.job_name != after.job_name


def test_operators_own_images_change_no_fingerprint() -> None:
    other = replace(SETTINGS, images=Images("a:2", "b:2", "c:2", "d:2", "e:2"))
    assert prints(build_chain(a_model().build(), other)) == prints(chain(a_model()))


@pytest.mark.parametrize("cpu", [2, "2", "2.0", "2000m", "2e0"])
@pytest.mark.parametrize("memory", ["8Gi", "8192Mi", 8589934592, "8589934592000m"])
def test_equal_quantities_are_equal(cpu: int | str, memory: int | str) -> None:
    model = a_model()
    for stage in ("training", "quantization", "serving", "loadTest"):
        model = model.with_spec(f"{stage}.resources", {"requests": {"cpu": cpu}, "limits": {"memory": memory}})
    written = a_model()
    for stage in ("training", "quantization", "serving", "loadTest"):
        written = written.with_spec(f"{stage}.resources", {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi"}})
    assert chain(model) == chain(written)


PINNED = {
    "train": "36d40a112ce3",
    "quantize": "66c71b150aa9",
    "evaluate": "3a5aab772b5c",
    "serve": "b19fb2a4894d",
    "loadtest": "c3b1815f4fa9",
}
"""A changed one runs that stage of every model again whose spec is edited: see the module's first paragraph."""


def test_fingerprints_stay_what_they_are() -> None:
    cyrillic = a_model().with_spec("training.labels", {"toxic": " да!", "nonToxic": " нет"})
    assert prints(chain(cyrillic)) == PINNED


@pytest.mark.parametrize(
    ("field", "source", "changes"),
    [
        ("baseModel", {"huggingFace": {"repo": "a/b"}}, {"revision": "v2", "repo": "a/c"}),
        ("dataset", {"huggingFace": {"repo": "a/b"}}, {"revision": "v2", "file": "a.csv", "repo": "a/c"}),
        ("dataset", {"kaggle": {"dataset": "a/b", "file": "c.csv"}}, {"dataset": "a/c", "file": "d.csv"}),
    ],
)
def test_secret_of_a_source_changes_no_result_but_a_refused_download_is_tried_again_with_it(
    field: str, source: dict[str, dict[str, str]], changes: dict[str, str]
) -> None:
    (kind,) = source
    remote = a_model().with_spec(field, source)
    opened = remote.with_spec(f"{field}.{kind}.secretName", "token")
    assert prints(chain(remote)) == prints(chain(opened))
    other = remote.with_spec(f"{field}.{kind}.secretName", "other-token")
    assert len({chain(each).train.job_name for each in (remote, opened, other)}) == 3
    for name, value in changes.items():
        assert (
            prints(chain(remote))["train"]
            != prints(chain(remote.with_spec(f"{field}.{kind}.{name}", value)))["train"]
        )


FORUM = {"name": "forum", "huggingFace": {"repo": "owner/forum"}}


def with_sets(*test_sets: dict[str, Any]) -> Chain:
    return chain(a_model().with_spec("evaluation.testSets", list(test_sets)))


def test_test_set_evaluates_again_and_trains_nothing() -> None:
    bare, added = prints(with_sets()), prints(with_sets(FORUM))
    assert bare == prints(chain(a_model()))
    assert [stage for stage in ALL if bare[stage] != added[stage]] == ALL[2:]
    for change in (
        {"name": "news"},
        {"textColumn": "text"},
        {"huggingFace": {"repo": "owner/forum", "revision": "v2"}},
    ):
        assert prints(with_sets(FORUM | change))["evaluate"] != added["evaluate"]


def test_bound_of_a_test_set_evaluates_nothing_again() -> None:
    assert prints(with_sets(FORUM)) == prints(with_sets(FORUM | {"minF1": 0.6}))
    assert with_sets(FORUM).job_names() == with_sets(FORUM | {"minF1": 0.6}).job_names()


def test_secret_of_a_test_set_tries_a_refused_download_again_and_changes_no_result() -> None:
    opened = with_sets(FORUM | {"huggingFace": {"repo": "owner/forum", "secretName": "token"}})
    assert prints(with_sets(FORUM)) == prints(opened)
    assert with_sets(FORUM).evaluate.job_name != opened.evaluate.job_name


def test_failed_evaluation_watches_the_sources_of_its_test_sets() -> None:
    model = a_model().with_spec(
        "evaluation.testSets",
        [
            {"name": "a", "configMap": {"name": "rows", "key": "a.csv"}},
            {"name": "b", "kaggle": {"dataset": "o/n", "file": "b.csv", "secretName": "kaggle"}},
        ],
    )
    spec = model.build().spec
    assert set(references(spec, "evaluate")) == {"ConfigMap/rows", "Secret/kaggle"}
    assert references(spec, "train") == references(a_model().build().spec, "train")


def test_pull_secrets_name_every_job_anew_so_that_what_could_not_be_pulled_is_tried_again() -> None:
    before, after = chain(a_model()), chain(a_model().with_spec("images.pullSecrets", ["registry"]))
    assert not before.job_names() & after.job_names()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("storage.objectStore.secretName", "other"),
        ("storage.objectStore.endpoint", "https://s3.example.com"),
        ("storage.scratch", {"size": "90Gi"}),
    ],
)
def test_access_to_the_store_names_every_job_anew_and_changes_no_result(path: str, value: object) -> None:
    stored = a_model().with_spec("storage.objectStore", {"url": "s3://models/team", "secretName": "key"})
    before, after = chain(stored), chain(stored.with_spec(path, value))
    assert not before.job_names() & after.job_names()
    same = {"train", "quantize", "evaluate", "loadtest"}
    assert {stage for stage in same if prints(before)[stage] == prints(after)[stage]} == same
    assert prints(before)["serve"] != prints(after)["serve"], "the pods are replaced"


@pytest.mark.parametrize(
    "cache", [{"claimName": "node-models"}, {"claimName": "other"}, {"claimName": "node-models", "size": "50Gi"}]
)
def test_cache_of_the_node_replaces_only_the_serving_pods(cache: dict[str, str]) -> None:
    stored = a_model().with_spec("storage.objectStore", {"url": "s3://models/team", "secretName": "key"})
    before = chain(stored.with_spec("storage.nodeCache", {"claimName": "node-models", "size": "30Gi"}))
    after = chain(stored.with_spec("storage.nodeCache", cache))
    assert before.job_names() == after.job_names() == chain(stored).job_names()
    changed = {stage for stage in ALL if prints(before)[stage] != prints(after)[stage]}
    assert changed == {"serve"}


def test_place_of_the_artifacts_changes_no_fingerprint_of_a_job() -> None:
    stored = a_model().with_spec("storage.objectStore", {"url": "s3://models/team"})
    on_volume, in_store = prints(chain(a_model())), prints(chain(stored))
    assert {key: on_volume[key] for key in ALL if key != "serve"} == {
        key: in_store[key] for key in ALL if key != "serve"
    }


def test_backend_has_an_image_of_its_own_and_its_change_runs_the_quantization_again() -> None:
    awq = a_model().with_spec("quantization.backend", "autoawq")
    assert prints(chain(awq))["quantize"] != prints(chain(a_model()))["quantize"]
    images = [found.quantize.made_with.image for found in (chain(awq), chain(a_model())) if found.quantize]
    assert images == ["autoawq-image:1", "quantize-image:1"]


def test_stage_that_is_switched_off_leaves_the_chain() -> None:
    off = chain(a_model().with_spec("quantization.method", "none").with_spec("loadTest.enabled", False))
    assert (off.quantize, off.loadtest, off.model_stage) == (None, None, off.train)


@pytest.mark.parametrize("name", ["a", "x" * 40])
def test_names_fit_into_a_label(name: str) -> None:
    found = chain(ModelBuilder(name=name))
    assert len(found.job_names()) == 4
    for job in found.job_names():
        assert job.startswith(name) and len(job) <= 63
