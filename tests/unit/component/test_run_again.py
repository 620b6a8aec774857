"""When a stage runs again: by `runId`, after a change of the cause of a failure, or if its result was lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.builders import NOW, SETTINGS, ModelBuilder, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import NEWER, conditions, drive, message, passes, run, settle, status, take_steps
from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.reconcile import reconcile

CRASH = {"exitCode": 1, "reason": "Error", "message": "no such column"}
CONFIG_MAP = "ConfigMap/comments"
FROM_CONFIG_MAP = (
    a_model().with_spec("dataset.image", None).with_spec("dataset.configMap", {"name": "comments", "key": "a.csv"})
)


def begun(cluster: FakeCluster, part: str) -> int:
    return len([name for kind, name in cluster.ever_created if kind == "Job" and f"-{part}-" in name])


@pytest.mark.parametrize(
    ("field", "again"),
    [
        ("training.runId", {"train": 2, "quantize": 1, "evaluate": 1}),
        ("quantization.runId", {"train": 1, "quantize": 2, "evaluate": 1}),
        ("evaluation.runId", {"train": 1, "quantize": 1, "evaluate": 2}),
    ],
)
def test_run_id_runs_its_stage_again_and_then_what_follows(field: str, again: dict[str, int]) -> None:
    cluster = drive(a_model())
    before = cluster.objects["Deployment", "ru-toxicity-serve"]
    cluster.change_spec(a_model().with_spec(field, "2026-11").spec)
    settle(cluster)
    assert {part: begun(cluster, part) for part in again} == again
    assert cluster.objects["Deployment", "ru-toxicity-serve"]["spec"] == before["spec"], "it serves meanwhile"


def failed_with(model: ModelBuilder, sources: dict[str, str]) -> FakeCluster:
    cluster = FakeCluster(model.raw())
    cluster.sources = dict(sources)
    settle(cluster)
    cluster.fail_job("train", CRASH)
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "JobFailed")
    return cluster


STORE = {"url": "s3://models/team", "secretName": "store-key", "caSecretName": "store-ca"}
HUB = {"huggingFace": {"repo": "a/b", "secretName": "hub"}}


@pytest.mark.parametrize(
    ("model", "source"),
    [
        (FROM_CONFIG_MAP, CONFIG_MAP),
        (a_model().with_spec("baseModel", HUB), "Secret/hub"),
        (a_model().with_spec("images.pullSecrets", ["registry"]), "Secret/registry"),
        (a_model().with_spec("storage.objectStore", STORE), "Secret/store-key"),
        (a_model().with_spec("storage.objectStore", STORE), "Secret/store-ca"),
    ],
)
@pytest.mark.parametrize(("old", "new"), [("1", "2"), ("absent", "1"), ("1", "absent")])
def test_failed_stage_is_tried_again_when_what_it_read_has_changed(
    model: ModelBuilder, source: str, old: str, new: str
) -> None:
    cluster = failed_with(model, {source: old})
    settle(cluster)
    assert begun(cluster, "train") == 1, "nothing has changed yet"
    cluster.sources[source] = new
    settle(cluster)
    assert begun(cluster, "train") == 2
    assert conditions(cluster)["Trained"] == ("Unknown", "Running")
    cluster.fail_job("train", CRASH)
    settle(cluster)
    assert begun(cluster, "train") == 2, "it failed with that as well"


def test_failed_load_test_is_tried_again_with_another_token() -> None:
    model = a_model().with_spec("serving.apiTokenSecretName", "wrong")
    cluster = drive(model, 4)
    cluster.fail_job("loadtest", CRASH)
    settle(cluster)
    assert conditions(cluster)["LoadTested"][0] == "False"
    cluster.change_spec(model.with_spec("serving.apiTokenSecretName", "right").spec)
    settle(cluster)
    cluster.roll_out()
    settle(cluster)
    assert begun(cluster, "loadtest") == 2


@pytest.mark.parametrize(("part", "steps"), [("quantize", 1), ("evaluate", 2), ("loadtest", 4)])
def test_each_failed_stage_is_tried_again_when_a_pull_secret_has_another_content(part: str, steps: int) -> None:
    cluster = FakeCluster(a_model().with_spec("images.pullSecrets", ["registry"]).raw())
    cluster.sources = {"Secret/registry": "1"}
    take_steps(cluster, steps)
    cluster.fail_job(part, CRASH)
    settle(cluster)
    assert begun(cluster, part) == 1
    cluster.sources["Secret/registry"] = "2"
    settle(cluster)
    assert begun(cluster, part) == 2


@pytest.mark.parametrize(
    ("field", "value", "source"),
    [
        ("serving.apiTokenSecretName", "token", "Secret/token"),
        ("loadTest.trace", {"name": "peak", "key": "times"}, "ConfigMap/peak"),
    ],
)
@pytest.mark.parametrize(("part", "steps", "runs"), [("train", 0, 1), ("evaluate", 2, 1), ("loadtest", 4, 2)])
def test_only_the_load_test_is_tried_again_when_what_it_alone_reads_has_changed(
    part: str, steps: int, runs: int, field: str, value: object, source: str
) -> None:
    cluster = FakeCluster(a_model().with_spec("loadTest.profile", "openLoop").with_spec(field, value).raw())
    cluster.sources = {source: "1"}
    take_steps(cluster, steps)
    cluster.fail_job(part, CRASH)
    settle(cluster)
    cluster.sources[source] = "2"
    settle(cluster)
    assert begun(cluster, part) == runs


def test_failed_stage_is_tried_again_with_another_image() -> None:
    cluster = failed_with(a_model(), {})
    newer = replace(SETTINGS, images=replace(SETTINGS.images, training="train-image:2"))
    for _ in range(3):
        reconcile(cluster, newer, "default", "ru-toxicity", NOW)
    assert begun(cluster, "train") == 2
    assert cluster.job("train")["spec"]["template"]["spec"]["containers"][0]["image"] == "train-image:2"


def test_stage_that_is_tried_again_is_recorded_with_the_image_of_the_new_try() -> None:
    cluster = failed_with(a_model(), {})
    assert status(cluster)["training"]["madeWith"]["image"] == "train-image:1"
    cluster.change_spec(a_model().with_spec("training.resources.limits.memory", "16Gi").spec)
    passes(cluster)
    assert begun(cluster, "train") == 2
    assert status(cluster)["training"]["madeWith"]["image"] == NEWER.images.training


def test_changed_data_of_a_finished_training_is_reported_and_waits_for_a_run_id() -> None:
    cluster = FakeCluster(FROM_CONFIG_MAP.raw())
    cluster.sources = {CONFIG_MAP: "digest-1"}
    take_steps(cluster)
    assert "outdated" not in status(cluster)
    cluster.sources[CONFIG_MAP] = "digest-2"
    settle(cluster)
    assert begun(cluster, "train") == 1
    (item,) = status(cluster)["outdated"]
    assert (item["stage"], item["subject"], item["madeWith"], item["present"]) == (
        "training", CONFIG_MAP, "digest-1", "digest-2",
    )  # fmt: skip
    assert "training.runId" in item["message"]
    assert conditions(cluster)["Ready"] == ("True", "AllStagesDone")
    cluster.change_spec(FROM_CONFIG_MAP.with_spec("training.runId", "2").spec)
    settle(cluster)
    assert begun(cluster, "train") == 2
    assert "outdated" not in status(cluster)


@pytest.mark.parametrize(("part", "steps"), [("train", 0), ("quantize", 1), ("evaluate", 2)])
def test_stage_whose_pod_is_gone_before_anybody_read_it_runs_again(part: str, steps: int) -> None:
    """Remove the node of the pods while the operator is down."""
    cluster = drive(a_model(), steps)
    cluster.finish_job(part, None)
    cluster.remove("Pod")
    settle(cluster)
    assert begun(cluster, part) == 2
    assert cluster.job(part)
    take_rest(cluster, part)
    assert status(cluster)["stage"] == "Ready"


def take_rest(cluster: FakeCluster, part: str) -> None:
    from support.operator.pipeline import STEPS

    for step in STEPS[["train", "quantize", "evaluate"].index(part) :]:
        step(cluster)
        settle(cluster)


def test_stage_that_was_given_up_for_a_lost_result_runs_again_after_an_upgrade() -> None:
    cluster = drive(a_model(), 0)
    cluster.finish_job("train", None)
    cluster.remove("Pod")
    assert cluster.model is not None
    lost = {"outcome": "Failed", "reason": "ResultMissing", "message": "no pod of it left a result document"}
    cluster.model["status"]["training"] |= lost
    del cluster.model["status"]["training"]["madeWith"]
    settle(cluster)
    assert begun(cluster, "train") == 2


def test_stage_that_leaves_no_result_has_failed() -> None:
    cluster = drive(a_model(), 0)
    cluster.finish_job("train", None)
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "ResultMissing")
    cluster.remove("Pod")
    cluster.remove("Job")
    settle(cluster)
    assert conditions(cluster)["Trained"] == ("False", "ResultMissing")
    assert begun(cluster, "train") == 1, "the TTL of a finished Job starts nothing"


def test_replaced_job_starts_when_the_pod_of_the_one_before_has_ended() -> None:
    cluster = drive(a_model(), 0)
    pod = cluster.run_pod("train")
    uid = cluster.job("train")["metadata"]["uid"]
    cluster.pods_linger = True
    cluster.change_spec(a_model().with_spec("training.resources.limits.memory", "16Gi").spec)
    settle(cluster)
    assert cluster.names_of("Job") == []
    assert conditions(cluster)["Trained"] == ("Unknown", "Waiting")
    assert f"kubectl delete pod {pod}" in message(cluster, "Trained")
    cluster.objects["Pod", pod]["metadata"]["deletionTimestamp"] = NOW
    settle(cluster)
    assert "delete the Node object" in message(cluster, "Trained")
    cluster.end_pods_of(uid)
    settle(cluster)
    assert (
        cluster.job("train")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        == "16Gi"
    )


def test_image_that_admission_renames_makes_no_failed_stage_run_again() -> None:
    cluster = drive(a_model(), 0)
    cluster.job("train")["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror.local/train-image:1"
    settle(cluster)
    cluster.fail_job("train", CRASH)
    settle(cluster)
    assert begun(cluster, "train") == 1
    assert status(cluster)["training"]["madeWith"]["image"] == "train-image:1"


@pytest.mark.parametrize("steps", range(6))
def test_pass_asks_for_the_secrets_of_the_next_stage_only(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = drive(a_model().with_spec("images.pullSecrets", ["registry"]), steps)
    asked: list[str] = []

    def read_version(kind: str, namespace: str, name: str) -> str:
        asked.append(name)
        return "1"

    monkeypatch.setattr(cluster, "read_version", read_version)
    run(cluster)
    assert asked == ["registry"] * (steps < 4), "while one stage runs, the next one may begin"


def test_secret_that_may_not_be_read_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = failed_with(a_model().with_spec("images.pullSecrets", ["withheld"]), {})

    def refuse(kind: str, namespace: str, name: str) -> str:
        raise ClusterError(f"secrets {name} is forbidden", 403)

    monkeypatch.setattr(cluster, "read_version", refuse)
    writes = cluster.writes
    for _ in range(3):
        run(cluster)
    assert [record.message for record in caplog.records].count("source_unreadable") == 1
    assert (begun(cluster, "train"), cluster.writes) == (1, writes)
