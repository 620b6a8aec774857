"""A new operator version with other images, defaults or hash formulas runs nothing again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from support.builders import NOW, SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import NEWER, ROLLING, STEPS, conditions, drive, passes, settle, status, take_steps
from toxicity_api.base import Document
from toxicity_api.spec import LoadTestSpec, QuantizationSpec, ServingSpec, ToxicityModelSpec, TrainingSpec
from toxicity_operator import names
from toxicity_operator.chain import ClusterFacts, build_chain
from toxicity_operator.manifests import serving
from toxicity_operator.model import read_model
from toxicity_operator.runtime.reconcile import reconcile
from toxicity_operator.runtime.rollout_limiter import RolloutLimiter

NEWER_KEYS = ("madeWith", "failedFor", names.VERSION)
SERVE = ("Deployment", "ru-toxicity-serve")
ANNOTATIONS = (names.SERVING_FINGERPRINT, names.MODEL_FINGERPRINT)


def children(cluster: FakeCluster) -> dict[Any, Any]:
    """The content of the children, without fields that change with every write."""
    parts = ("spec", "rules", "subjects", "roleRef", "status")
    return copy.deepcopy(
        {
            key: {part: item.get(part) for part in parts} | {"uid": item["metadata"]["uid"]}
            for key, item in cluster.objects.items()
            if key[0] not in ("Pod", "ReplicaSet")
        }
    )


def as_of_an_earlier_version(cluster: FakeCluster) -> None:
    """Change status and Deployment to those of an operator without versions and madeWith, with other hashes."""
    assert cluster.model is not None
    known = {
        part["fingerprint"]
        for part in cluster.model["status"].values()
        if isinstance(part, dict) and "fingerprint" in part
    }
    text = {old: f"earlier{index:05}" for index, old in enumerate(sorted(known))}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(part) for key, part in value.items() if key not in NEWER_KEYS}
        if isinstance(value, list):
            return [renamed(part) for part in value]
        for old, new in text.items():
            value = value.replace(old, new) if isinstance(value, str) else value
        return value

    version = cluster.objects.get(SERVE, {}).get("metadata", {}).get("annotations", {}).get(names.VERSION)
    served = (
        cluster.objects.get(SERVE, {}).get("metadata", {}).get("annotations", {}).get(names.SERVING_FINGERPRINT)
    )
    if version:
        text[version] = text.get(served, served)
    cluster.model["status"] = renamed(cluster.model["status"])
    if "serving" in cluster.model["status"]:
        del cluster.model["status"]["serving"]["fingerprint"]
    cluster.objects = {key: renamed(item) for key, item in cluster.objects.items()}


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_newer_operator_makes_no_job_and_rolls_nothing_out(steps: int, earlier: bool) -> None:
    cluster = drive(a_model(), steps)
    if earlier:
        as_of_an_earlier_version(cluster)
    before, made = children(cluster), list(cluster.ever_created)
    stage, deployment = status(cluster)["stage"], copy.deepcopy(cluster.objects.get(SERVE))
    with other_pods():
        passes(cluster)
    assert children(cluster) == before
    assert cluster.objects.get(SERVE) == deployment, "even a note on it would make it seem to roll out"
    assert cluster.ever_created == made
    assert status(cluster)["stage"] == stage
    take_rest(cluster, steps)
    assert status(cluster)["stage"] == "Ready"
    jobs = [name for kind, name in cluster.ever_created if kind == "Job"]
    assert len(jobs) == len(set(jobs)) == 4


def take_rest(cluster: FakeCluster, steps: int) -> None:
    for step in STEPS[steps:]:
        step(cluster)
        passes(cluster)


def test_image_that_an_earlier_operator_did_not_record_is_that_of_its_job() -> None:
    cluster = drive(a_model())
    as_of_an_earlier_version(cluster)
    passes(cluster)
    images = {
        stage: status(cluster)[stage]["madeWith"]["image"] for stage in ("training", "quantization", "evaluation")
    }
    assert images == {
        "training": "train-image:1", "quantization": "quantize-image:1", "evaluation": "serve-image:1",
    }  # fmt: skip


@pytest.mark.parametrize("earlier", [False, True])
def test_version_that_was_given_up_is_not_tried_again_by_an_upgrade(earlier: bool) -> None:
    cluster = drive(a_model())
    cluster.change_spec(a_model().with_spec("serving.maxNumSeqs", 8).spec)
    settle(cluster)
    cluster.stall()
    settle(cluster)
    cluster.roll_out()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    if earlier:
        as_of_an_earlier_version(cluster)
    before, made = children(cluster), list(cluster.ever_created)
    with other_pods():
        passes(cluster)
    assert (children(cluster), cluster.ever_created) == (before, made)
    assert conditions(cluster)["Ready"] == ("False", "RolledBack")
    assert status(cluster)["serving"]["failedMessage"] == "late"
    cluster.change_spec(a_model().with_spec("serving.maxNumSeqs", 16).spec)
    passes(cluster)
    assert children(cluster) != before


def test_first_version_that_was_given_up_is_tried_again_with_other_pods() -> None:
    """Nothing serves, so a new attempt puts nothing at risk."""
    cluster = drive(a_model(), 3)
    cluster.roll_out(ready=0)
    cluster.stall()
    settle(cluster)
    assert conditions(cluster)["Ready"] == ("False", "RollOutFailed")
    before = children(cluster)
    with other_pods():
        passes(cluster)
    assert children(cluster) != before


@contextmanager
def other_pods() -> Iterator[None]:
    """Simulate an operator version that makes another pod template of the same spec."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "PORT", 9999)
        yield


def test_template_of_an_operator_before_the_earlier_one_does_not_come_back() -> None:
    """Neither operator set the version annotation, so their templates have the same annotations."""
    cluster = drive(a_model())
    as_of_an_earlier_version(cluster)
    (name,) = cluster.names_of("ReplicaSet")
    older = copy.deepcopy(cluster.objects["ReplicaSet", name])
    cluster.objects["ReplicaSet", name]["metadata"]["creationTimestamp"] = "2029-02-01T00:00:00Z"
    older["metadata"] |= {"name": "older", "uid": "uid-of-older", "creationTimestamp": "2029-01-01T00:00:00Z"}
    older["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    cluster.objects["ReplicaSet", "older"] = older
    before = children(cluster)
    passes(cluster)
    assert children(cluster) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_edit_after_the_upgrade_runs_again_what_depends_on_it_and_no_more(earlier: bool) -> None:
    cluster = drive(a_model())
    if earlier:
        as_of_an_earlier_version(cluster)
    passes(cluster)
    made = len(cluster.ever_created)
    cluster.change_spec(a_model().with_spec("loadTest.runId", "2").spec)
    passes(cluster)
    assert [name.rsplit("-", 1)[0] for _, name in cluster.ever_created[made:]] == ["ru-toxicity-loadtest"]
    cluster.finish_load_test()
    passes(cluster)
    cluster.change_spec(a_model().with_spec("training.learningRate", 1e-4).spec)
    passes(cluster)
    assert [name.rsplit("-", 1)[0] for _, name in cluster.ever_created[made + 1 :]] == ["ru-toxicity-train"]
    assert cluster.job("train")["spec"]["template"]["spec"]["containers"][0]["image"] == "t:2"


class LateView(FakeCluster):
    """The same cluster with a cache that does not contain the Deployment yet."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.__dict__ = cluster.__dict__

    def list_children(self, namespace: str, name: str) -> list[dict[str, Any]]:
        return [item for item in super().list_children(namespace, name) if item["kind"] != "Deployment"]


def outdated(cluster: FakeCluster) -> dict[tuple[str, str], tuple[str, str]]:
    return {
        (item["stage"], item["subject"]): (item["madeWith"], item["present"])
        for item in status(cluster).get("outdated", [])
    }


def test_status_says_what_was_made_with_other_images() -> None:
    cluster = drive(a_model())
    assert outdated(cluster) == {}
    passes(cluster)
    found = outdated(cluster)
    assert (
        found.items()
        >= {
            ("training", "image"): ("train-image:1", "t:2"),
            ("quantization", "image"): ("quantize-image:1", "q:2"),
            ("evaluation", "image"): ("serve-image:1", "s:2"),
        }.items()
    )
    assert status(cluster)["training"]["madeWith"]["operator"] == "unknown"
    messages = {item["stage"]: item["message"] for item in status(cluster)["outdated"]}
    assert "training.runId" in messages["training"] and "quantization.runId" in messages["quantization"]
    assert "upgrades.policy: RollOut" in messages["evaluation"]
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")


def image_of(cluster: FakeCluster) -> str:
    found: str = cluster.objects[SERVE]["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def test_new_version_of_a_model_is_served_by_the_engine_that_evaluated_it() -> None:
    cluster = drive(a_model())
    cluster.change_spec(a_model().with_spec("serving.threshold", 0.75).spec)
    passes(cluster)
    assert image_of(cluster) == "serve-image:1", "only the threshold is new"
    cluster.change_spec(a_model().with_spec("serving.maxModelLen", 256).spec)
    passes(cluster)
    cluster.finish_evaluation()
    passes(cluster)
    assert image_of(cluster) == "s:2"


def test_roll_out_evaluates_with_the_new_image_before_it_serves_and_trains_nothing() -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    made = len(cluster.ever_created)
    passes(cluster, ROLLING, limiter)
    assert image_of(cluster) == "serve-image:1"
    cluster.finish_evaluation()
    passes(cluster, ROLLING, limiter)
    assert image_of(cluster) == "s:2"
    cluster.roll_out()
    passes(cluster, ROLLING, limiter)
    cluster.finish_load_test()
    passes(cluster, ROLLING, limiter)
    assert [name.rsplit("-", 1)[0] for _, name in cluster.ever_created[made:]] == [
        "ru-toxicity-evaluate", "ru-toxicity-loadtest",
    ]  # fmt: skip
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert {stage for stage, _ in outdated(cluster)} == {"training", "quantization"}
    assert limiter.acquire(("default", "another")), "its turn is over"


def refused(cluster: FakeCluster) -> None:
    cluster.finish_evaluation(f1=0.1)


def undecided(cluster: FakeCluster) -> None:
    cluster.finish_evaluation(f1=0.5)


def failed(cluster: FakeCluster) -> None:
    cluster.fail_job("evaluate", {"exitCode": 42, "reason": "Error", "message": ""})


def stopped(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("serving.replicas", 0).spec)
    passes(cluster, ROLLING, RolloutLimiter(0))
    cluster.finish_evaluation()
    passes(cluster, ROLLING, RolloutLimiter(0))
    cluster.roll_out()


def paused(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("paused", True).spec)


def retrained(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)


def invalid(cluster: FakeCluster) -> None:
    cluster.change_spec(a_model().with_spec("loadTest.schedule", "99 99 * * *").spec)


def given_up(cluster: FakeCluster) -> None:
    cluster.finish_evaluation()
    passes(cluster, ROLLING, RolloutLimiter(0))
    cluster.stall()


def gone(cluster: FakeCluster) -> None:
    cluster.model = None


@pytest.mark.parametrize(
    "end",
    [refused, undecided, failed, stopped, paused, retrained, invalid, given_up, gone],
    ids=lambda end: end.__name__,
)
def test_resource_that_cannot_move_gives_its_turn_to_another(end: Callable[[FakeCluster], None]) -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    passes(cluster, ROLLING, limiter)
    assert not limiter.acquire(("default", "another")), "it is being evaluated"
    end(cluster)
    passes(cluster, ROLLING, limiter)
    assert limiter.acquire(("default", "another"))


def test_other_image_makes_an_evaluation_only_where_an_upgrade_is_allowed() -> None:
    model = read_model(drive(a_model()).model or {})
    kept, moved = build_chain(model, NEWER), build_chain(model, NEWER, ClusterFacts(may_upgrade=True))
    assert model.status.evaluation is not None
    assert kept.evaluate.fingerprint == model.status.evaluation.fingerprint != moved.evaluate.fingerprint
    assert kept.evaluate.job_name != moved.evaluate.job_name
    assert kept.train == moved.train


def test_only_as_many_are_rolled_out_at_once_as_the_chart_says() -> None:
    clusters, limiter = [drive(a_model()) for _ in range(3)], RolloutLimiter(2)
    for number, cluster in enumerate(clusters):
        assert cluster.model is not None
        cluster.model["metadata"]["namespace"] = f"team-{number}"
        reconcile(cluster, ROLLING, f"team-{number}", "ru-toxicity", NOW, limiter)
    begun = [len(cluster.ever_created) for cluster in clusters]
    assert begun == [max(begun), max(begun), min(begun)] and begun[0] > begun[2]


def test_broken_pods_of_a_newer_operator_give_way_to_the_version_before(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    good, template = status(cluster)["serving"]["goodFingerprint"], cluster.objects[SERVE]["spec"]["template"]
    settings = replace(ROLLING, images=SETTINGS.images)
    monkeypatch.setattr(serving, "PORT", 9999)
    passes(cluster, settings, limiter)
    bad = cluster.objects[SERVE]["metadata"]["annotations"][names.VERSION]
    assert bad != good
    cluster.stall()
    passes(cluster, settings, limiter)
    assert cluster.objects[SERVE]["metadata"]["annotations"][names.VERSION] == good
    probe = cluster.objects[SERVE]["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert probe == template["spec"]["containers"][0]["ports"]
    cluster.roll_out()
    passes(cluster, settings, limiter)
    assert conditions(cluster)["Ready"][0] == "True", "the version before serves what the spec asks for"
    assert status(cluster)["serving"]["failedFingerprint"] == bad
    writes = cluster.writes
    for _ in range(5):
        reconcile(cluster, settings, "default", "ru-toxicity", NOW, limiter)
    assert cluster.writes == writes, "the failed version is not tried again"
    assert "RolledBack" in {event.reason for event in cluster.events}


@pytest.mark.parametrize(
    ("kind", "field", "stored", "other", "stages"),
    [
        (TrainingSpec, "epochs", 1.0, 3.0, {"training"}),
        (QuantizationSpec, "calibration_samples", 32, 64, {"quantization"}),
        (ServingSpec, "max_model_len", 512, 1024, {"evaluation"}),
        (ServingSpec, "queue_limit", 256, 512, set()),
        (LoadTestSpec, "users", 16, 32, set()),
    ],
)
def test_changed_default_runs_nothing_again_and_is_reported(
    kind: type[Document], field: str, stored: float, other: float, stages: set[str]
) -> None:
    """The API server has stored the previous default, and the operator has a new one."""
    block = {TrainingSpec: "training", QuantizationSpec: "quantization", ServingSpec: "serving"}.get(
        kind, "loadTest"
    )
    model = a_model().with_spec(f"{block}.{to_camel(field)}", stored)
    cluster = drive(model)
    made, serving = list(cluster.ever_created), copy.deepcopy(cluster.objects[SERVE]["spec"])
    with changed_default(kind, field, other):
        passes(cluster, SETTINGS)
        assert cluster.ever_created == made
        assert cluster.objects[SERVE]["spec"] == serving
        assert {stage for stage, subject in outdated(cluster) if subject == "defaults"} == stages
        cluster.change_spec(model.with_spec("loadTest.runId", "2").spec)
        passes(cluster, SETTINGS)
        assert [name.rsplit("-", 1)[0] for _, name in cluster.ever_created[len(made) :]] == [
            "ru-toxicity-loadtest"
        ]
        assert cluster.objects[SERVE]["spec"] == serving


@contextmanager
def changed_default(kind: type[Document], field: str, value: float) -> Iterator[None]:
    """The spec models with another default."""
    before = kind.model_fields[field].default

    def change(to: float) -> None:
        kind.model_fields[field].default = to
        kind.model_rebuild(force=True)
        ToxicityModelSpec.model_rebuild(force=True)

    change(value)
    try:
        yield
    finally:
        change(before)


def test_deployment_that_the_mirror_does_not_show_yet_is_not_rolled_out() -> None:
    cluster = drive(a_model(), 4)
    before = children(cluster)
    assert cluster.model is not None
    del cluster.model["status"]["evaluation"]["madeWith"]
    hidden = LateView(cluster)
    reconcile(hidden, NEWER, "default", "ru-toxicity", NOW)
    assert image_of(cluster) == "serve-image:1"
    passes(cluster)
    assert children(cluster)[SERVE] == before[SERVE]
    assert conditions(cluster)["Ready"][0] == "True"


def test_spec_that_was_invalid_is_not_taken_for_what_was_made() -> None:
    cluster = drive(a_model())
    as_of_an_earlier_version(cluster)
    cluster.change_spec(a_model().with_spec("training.learningRate", 1e-4).spec)
    status(cluster)["stage"] = "InvalidSpec"
    status(cluster)["observedGeneration"] = 2
    passes(cluster)
    assert cluster.job("train")
    take_steps(cluster, 0)


def test_changed_default_of_serving_measures_nothing_again() -> None:
    from toxicity_api.spec import ServingSpec

    stored = a_model().with_spec("serving.maxNumSeqs", 64)
    cluster = drive(stored)
    made, before = list(cluster.ever_created), children(cluster)
    field = ServingSpec.model_fields["max_num_seqs"]
    assert field.default == 64
    try:
        field.default = 128
        ServingSpec.model_rebuild(force=True)
        passes(cluster, SETTINGS)
        assert cluster.ever_created == made
        assert children(cluster) == before
        cluster.change_spec(stored.with_spec("serving.maxNumSeqs", 32).spec)
        passes(cluster, SETTINGS)
        cluster.roll_out()
        passes(cluster, SETTINGS)
        assert cluster.job("loadtest")
    finally:
        field.default = 64
        ServingSpec.model_rebuild(force=True)


def test_roll_out_evaluates_nothing_again_with_the_image_that_serves() -> None:
    """An earlier version did not record the image of the evaluation, and the Job was deleted."""
    cluster, limiter = drive(a_model()), RolloutLimiter(1)
    as_of_an_earlier_version(cluster)
    cluster.remove("Job")
    passes(cluster, replace(ROLLING, images=SETTINGS.images), limiter)
    assert cluster.names_of("Job") == []
    cluster.roll_out()
    passes(cluster, replace(ROLLING, images=SETTINGS.images), limiter)
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    assert limiter.acquire(("default", "another"))
    passes(cluster, ROLLING, RolloutLimiter(1))
    assert cluster.job("evaluate"), "another image is another engine"
