"""The whole loop on a real cluster, told in order: train (with the operator and the pod killed meanwhile), quantize,
evaluate, serve, load test; then what the service answers, and another load test."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import yaml

from support.e2e.loop import NAME, Finished
from support.e2e.scenario import (
    children,
    condition,
    get_model,
    jobs,
    patch_spec,
    pods_of,
    run_on_volume,
    serving_pods,
)
from toxicity_api.conditions import ABNORMAL_TYPES, ConditionType
from toxicity_cluster.commands import run
from toxicity_cluster.demo_install import CHART, OPERATOR_NAMESPACE, RELEASE, SAMPLE_DATASET, SAMPLES, Installation
from toxicity_cluster.demo_kubectl import Manifest, wait_until
from toxicity_cluster.demo_probe import classify, fetch
from toxicity_cluster.demo_watch import is_done, status_of
from toxicity_cluster.errors import CommandFailed

pytestmark = pytest.mark.e2e

LOAD_TEST_SECONDS = 10 * 60

# neither stands in the sample data set
CLEARLY_TOXIC = "Заткнись, тупой урод, тошнит от твоей глупости, идиот"
CLEARLY_HARMLESS = "Подскажите, пожалуйста, во сколько завтра открывается бассейн у парка?"


def test_every_condition_is_true_for_the_present_spec(finished: Finished) -> None:
    conditions = finished.model["status"]["conditions"]
    generation = finished.model["metadata"]["generation"]
    wanted = {str(kind): "False" if kind in ABNORMAL_TYPES else "True" for kind in ConditionType}
    assert {c["type"]: c["status"] for c in conditions} == wanted
    assert {c["observedGeneration"] for c in conditions} == {generation}
    assert finished.model["status"]["observedGeneration"] == generation


def test_operator_killed_while_training_leaves_one_job_and_one_result(
    cluster: Installation, finished: Finished
) -> None:
    kubectl = cluster.kubectl
    operators = kubectl.list("pods", OPERATOR_NAMESPACE, "app.kubernetes.io/component=operator")
    assert {pod["metadata"]["name"] for pod in operators}.isdisjoint(finished.killed_operators)
    (job,) = jobs(kubectl, finished.namespace, "train")
    assert job["metadata"]["uid"] == finished.first_training_job
    assert job["status"].get("succeeded") == 1
    listing = kubectl.run("exec", f"deployment/{NAME}-serve", "-n", finished.namespace, "--", "ls", "/artifacts")
    # without the checkpoints and the unfinished folder of the pod that was killed
    results = [folder for folder in listing.split() if re.fullmatch("train-[0-9a-f]+", folder)]
    assert results == [f"train-{finished.model['status']['training']['fingerprint']}"]


def test_killed_training_pod_is_followed_by_one_that_goes_on_from_its_checkpoint(
    cluster: Installation, finished: Finished
) -> None:
    kubectl = cluster.kubectl
    assert condition(finished.half_way, ConditionType.TRAINED)["message"].startswith("step ")
    (job,) = jobs(kubectl, finished.namespace, "train")
    (successor,) = pods_of(kubectl, job)
    assert successor["metadata"]["uid"] != finished.killed_training_pod
    log = kubectl.run("logs", successor["metadata"]["name"], "-n", finished.namespace, "-c", "train")
    assert "resuming from checkpoint-" in log
    training = status_of(finished.model).training
    assert training is not None and training.progress is None


def test_curves_of_the_training_are_beside_its_result(cluster: Installation, finished: Finished) -> None:
    folder = f"/artifacts/train-{finished.model['status']['training']['fingerprint']}/tensorboard"
    found = cluster.kubectl.run("exec", f"deployment/{NAME}-serve", "-n", finished.namespace, "--", "ls", folder)
    assert re.fullmatch(r"events\.out\.tfevents\.\S+\n", found)


def test_figures_are_those_of_a_model_that_learnt(finished: Finished) -> None:
    training = status_of(finished.model).training
    quantization = status_of(finished.model).quantization
    assert training is not None and training.f1 is not None and training.train_samples is not None
    assert training.f1 > 0.5
    assert training.train_samples == 240
    assert quantization is not None and quantization.f1 is not None and quantization.f1_drop is not None
    assert quantization.f1_drop == pytest.approx(training.f1 - quantization.f1, abs=1e-3)
    assert quantization.size_bytes is not None and quantization.original_size_bytes is not None
    assert 0 < quantization.size_bytes < quantization.original_size_bytes
    evaluation = status_of(finished.model).evaluation
    assert evaluation is not None and evaluation.engine is not None and evaluation.engine.startswith("vllm ")
    assert evaluation.test_samples == training.test_samples
    assert evaluation.drop is not None and evaluation.f1 is not None and evaluation.original_f1 is not None
    assert evaluation.drop.f1_drop == pytest.approx(evaluation.original_f1 - evaluation.f1, abs=1e-3)
    assert evaluation.drop.agreement > 0.5


def test_served_threshold_is_the_one_chosen_in_the_serving_engine(
    cluster: Installation, finished: Finished
) -> None:
    status = status_of(finished.model)
    assert status.serving is not None and status.evaluation is not None
    card = json.loads(
        fetch(cluster.kubectl, finished.namespace, cluster.images["loadtest"], f"{status.serving.url}/v1/model")
    )
    assert card["threshold"] == status.evaluation.threshold


def test_the_pod_took_over_what_the_evaluation_compiled(cluster: Installation, finished: Finished) -> None:
    evaluation = status_of(finished.model).evaluation
    assert evaluation is not None and evaluation.compiled_sha256 is not None
    (pod,) = serving_pods(cluster.kubectl, finished.model)
    log = cluster.kubectl.run("logs", pod["metadata"]["name"], "-n", finished.namespace)
    assert "compiled_code_taken" in log
    assert "Compiling model again" not in log


def test_buckets_sum_to_the_requests_that_the_server_counted(finished: Finished) -> None:
    load_test = status_of(finished.model).load_test
    assert load_test is not None
    assert [bucket.name for bucket in load_test.buckets] == ["1-200", "201-400", "401-600"]
    assert all(bucket.requests > 0 and bucket.failures == 0 for bucket in load_test.buckets)
    assert load_test.mixed is not None and load_test.mixed.failures == 0
    measured = sum(bucket.requests for bucket in (*load_test.buckets, load_test.mixed))
    assert measured == load_test.requests
    assert measured + load_test.warmup_requests == finished.counted


def test_service_puts_clear_texts_on_the_right_sides(cluster: Installation, finished: Finished) -> None:
    sample = SAMPLE_DATASET.read_text(encoding="utf-8")
    assert CLEARLY_TOXIC not in sample and CLEARLY_HARMLESS not in sample
    serving = status_of(finished.model).serving
    assert serving is not None
    toxic, harmless = classify(
        cluster.kubectl,
        finished.namespace,
        cluster.images["loadtest"],
        serving.url,
        [CLEARLY_TOXIC, CLEARLY_HARMLESS],
    )
    assert toxic.toxic and not harmless.toxic, (toxic, harmless)
    assert toxic.score > harmless.score


def test_sample_job_scores_each_row_of_a_file(cluster: Installation, finished: Finished) -> None:
    serving = status_of(finished.model).serving
    assert serving is not None
    kubectl, namespace = cluster.kubectl, finished.namespace
    claim, job = yaml.safe_load_all((SAMPLES / "score-job.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["image"] = cluster.images["serving"]
    container["args"] = [
        f"--service={serving.url}" if a.startswith("--service=") else a for a in container["args"]
    ]
    write = "import os, pathlib; pathlib.Path('/data/comments.csv').write_text(os.environ['TABLE'], 'utf-8')"
    read = "import pathlib; print(pathlib.Path('/data/scores/part-000000.csv').read_text('utf-8'))"
    table = f'comment,id\n"{CLEARLY_TOXIC}",7\n"",8\n"{CLEARLY_HARMLESS}",9\n'
    on_volume = kubectl, namespace, container["image"], claim["metadata"]["name"]
    try:
        kubectl.apply(claim, namespace)
        run_on_volume(*on_volume, write, {"TABLE": table})
        kubectl.apply(job, namespace)
        kubectl.run("wait", "--for=condition=complete", "job/score-comments", "-n", namespace, "--timeout=110s")
        scored = run_on_volume(*on_volume, read)
    finally:
        kubectl.delete("job", job["metadata"]["name"], namespace)
        kubectl.delete("pvc", claim["metadata"]["name"], namespace)
    toxic, empty, harmless = csv.DictReader(io.StringIO(scored.strip()))
    assert [row["text"] for row in (toxic, empty, harmless)] == [CLEARLY_TOXIC, "", CLEARLY_HARMLESS]
    assert (toxic["label"], harmless["label"]) == ("1", "0"), scored
    assert float(toxic["score"]) > float(harmless["score"])
    assert empty["error"] and not empty["score"], scored


def test_helm_test_classifies_a_text_and_fails_where_nobody_answers(
    cluster: Installation, finished: Finished
) -> None:
    serving = status_of(finished.model).serving
    assert serving is not None
    helm_test(cluster, serving.url)
    with pytest.raises(CommandFailed):
        helm_test(cluster, f"{serving.url}/nowhere")


def helm_test(cluster: Installation, url: str) -> None:
    """What NOTES tell a user to run. Raises CommandFailed when the chart's test fails."""
    place = ["-n", OPERATOR_NAMESPACE, "--kubeconfig", str(cluster.kubectl.kubeconfig)]
    values = ["--reuse-values", "--set", f"helmTest.url={url}"]
    run([str(cluster.helm), "upgrade", RELEASE, str(CHART), *place, *values, "--wait", "--timeout", "2m"])
    run([str(cluster.helm), "test", RELEASE, *place, "--timeout", "2m"])


def test_autoscaler_reads_the_metric(cluster: Installation, finished: Finished) -> None:
    def active() -> Manifest | None:
        (autoscaler,) = cluster.kubectl.list("horizontalpodautoscalers", finished.namespace)
        states = {c["type"]: c["status"] for c in autoscaler["status"].get("conditions", [])}
        return autoscaler if states.get("ScalingActive") == "True" else None

    autoscaler = wait_until("the HPA's ScalingActive is True", active, deadline_seconds=180)
    (metric,) = autoscaler["status"]["currentMetrics"]
    assert metric["resource"]["name"] == "cpu"
    assert metric["resource"]["current"]["averageUtilization"] >= 0


def test_changed_run_id_makes_one_load_test_job_and_nothing_else(
    cluster: Installation, finished: Finished
) -> None:
    kubectl = cluster.kubectl
    patch_spec(kubectl, NAME, finished.namespace, {"loadTest": {"runId": "again"}})

    def measured_again() -> Manifest | None:
        model = get_model(cluster, NAME, finished.namespace)
        load_test = status_of(model).load_test
        again = load_test is not None and load_test.run_id == "again" and load_test.state == "Complete"
        return model if again and is_done(model) else None

    model = wait_until("the second load test is complete", measured_again, LOAD_TEST_SECONDS)
    after = children(kubectl, model)
    assert {title: after.get(title) for title in finished.children} == finished.children
    (new,) = set(after) - set(finished.children)
    assert new.startswith(f"Job/{NAME}-loadtest-")
