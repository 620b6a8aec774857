"""Curves in real event files, and on a real MLflow server: new, resumed, failed, with a login, and out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from support.ports import free_ports
from support.training.event_files import read_curves
from support.training.mlflow_server import LOGIN, mlflow_server
from toxicity_api.results import Metrics
from toxicity_api.spec import Lora, Mlflow, TrainingSpec
from toxicity_cluster.demo_kubectl import wait_until
from toxicity_training.tracking import (
    FLUSH_SECONDS,
    LEARNING_RATE,
    MLFLOW_DEFAULTS,
    TRAINING_LOSS,
    VALIDATION_LOSS,
    MlflowRun,
    TensorBoard,
    Tracking,
    parameters_of,
)

METRICS = Metrics(
    threshold=0.4, f1=0.81, precision=0.75, recall=0.88, accuracy=0.9, macro_f1=0.86, roc_auc=0.97, pr_auc=0.91,
    test_samples=100,
)  # fmt: skip
PARAMETERS = {"lora.r": "4", "promptTemplate": "токсично? {text}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tracker sets in the environment goes after the test."""
    for name in MLFLOW_DEFAULTS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run_of(url: str, fingerprint: str, experiment: str = "toxicity") -> MlflowRun:
    return MlflowRun(Mlflow(tracking_uri=url, experiment=experiment), "comments", fingerprint, PARAMETERS)


def only_run(url: str, experiment: str = "toxicity", **search: Any) -> Any:
    client = MlflowClient(url)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], **search)
    return run


def curve(url: str, run: Any, name: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in MlflowClient(url).get_metric_history(run.info.run_id, name)}


def test_event_files_have_every_step_the_validations_and_the_figures(tmp_path: Path) -> None:
    with Tracking([TensorBoard(tmp_path)], print) as tracking:
        tracking.start([0.9, 0.8], {2: 0.7})
        tracking.step_done(3, 0.6, 2e-4, None)
        tracking.step_done(4, 0.5, 1e-4, 0.55)
        tracking.evaluated(METRICS, 4)
    curves = read_curves(tmp_path)
    assert curves[TRAINING_LOSS] == pytest.approx({1: 0.9, 2: 0.8, 3: 0.6, 4: 0.5})
    assert curves[VALIDATION_LOSS] == pytest.approx({2: 0.7, 4: 0.55})
    assert curves[LEARNING_RATE] == pytest.approx({3: 2e-4, 4: 1e-4})
    assert {name: points[4] for name, points in curves.items() if name.startswith("test/")} == pytest.approx(
        {
            "test/f1": 0.81, "test/precision": 0.75, "test/recall": 0.88, "test/macro_f1": 0.86, "test/roc_auc": 0.97,
            "test/pr_auc": 0.91, "test/threshold": 0.4,
        }
    )  # fmt: skip


def test_event_files_grow_during_the_training(tmp_path: Path) -> None:
    now = 1000.0
    with Tracking([TensorBoard(tmp_path)], print, lambda: now) as tracking:
        tracking.start([], {})
        tracking.step_done(1, 0.9, 1e-4, None)
        assert TRAINING_LOSS not in read_curves(tmp_path)
        now += FLUSH_SECONDS
        tracking.step_done(2, 0.8, 1e-4, None)
        wait_until("both values", lambda: read_curves(tmp_path).get(TRAINING_LOSS, {}).keys() == {1, 2}, 30, 0.05)


def test_training_that_fails_before_its_first_step_says_why(tmp_path: Path) -> None:
    trackers = [TensorBoard(tmp_path), run_of(f"http://127.0.0.1:{free_ports(1)[0]}", "kkk")]
    said: list[str] = []
    with pytest.raises(ValueError, match="no such base model"), Tracking(trackers, said.append):
        raise ValueError("no such base model")
    assert said == [] and list(tmp_path.iterdir()) == []


def test_run_has_curves_parameters_and_figures(server: str) -> None:
    with Tracking([run_of(server, "aaa", "new")], print) as tracking:
        tracking.start([], {})
        assert only_run(server, "new").info.status == "RUNNING"
        tracking.step_done(1, 0.9, 2e-4, None)
        tracking.step_done(2, 0.8, 1e-4, 0.7)
        tracking.evaluated(METRICS, 2)
    run = only_run(server, "new")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "comments")
    assert run.data.params == PARAMETERS
    assert curve(server, run, TRAINING_LOSS) == {1: 0.9, 2: 0.8}
    assert curve(server, run, VALIDATION_LOSS) == {2: 0.7}
    assert curve(server, run, LEARNING_RATE) == {1: 2e-4, 2: 1e-4}
    assert curve(server, run, "test/macro_f1") == {2: 0.86}


def test_training_that_resumes_continues_its_run(server: str) -> None:
    other = Tracking([run_of(server, "bbb", "resumed")], print)
    other.start([], {})
    with pytest.raises(RuntimeError), Tracking([run_of(server, "ccc", "resumed")], print) as tracking:
        tracking.start([], {})
        tracking.step_done(1, 0.9, 1e-4, None)
        tracking.step_done(2, 0.8, 1e-4, None)
        raise RuntimeError("the pod is lost")
    ours = {"filter_string": "tags.`toxicity.fingerprint` = 'ccc'"}
    assert only_run(server, "resumed", **ours).info.status == "FAILED"
    with Tracking([run_of(server, "ccc", "resumed")], print) as tracking:
        tracking.start([0.9], {})  # from the checkpoint after the first step
        assert only_run(server, "resumed", **ours).info.status == "RUNNING"
        tracking.step_done(2, 0.8, 1e-4, None)
        tracking.step_done(3, 0.7, 1e-4, None)
    run = only_run(server, "resumed", **ours)
    assert run.info.status == "FINISHED"
    assert curve(server, run, TRAINING_LOSS) == {1: 0.9, 2: 0.8, 3: 0.7}


def test_training_again_is_another_run(server: str) -> None:
    for _ in range(2):
        with Tracking([run_of(server, "ddd", "again")], print) as tracking:
            tracking.start([], {})
    client = MlflowClient(server)
    runs = client.search_runs([client.get_experiment_by_name("again").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_long_history_is_sent_in_several_requests(server: str) -> None:
    losses = [1 / step for step in range(1, 2502)]
    with Tracking([run_of(server, "eee", "long")], print) as tracking:
        tracking.start(losses, {})
    run = only_run(server, "long")
    assert curve(server, run, TRAINING_LOSS) == pytest.approx(dict(enumerate(losses, start=1)))


def test_server_out_of_reach_is_said_once_and_the_event_files_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with Tracking([run_of(url, "fff"), TensorBoard(tmp_path)], said.append) as tracking:
        tracking.start([], {})
        tracking.step_done(1, 0.9, 1e-4, None)
        tracking.evaluated(METRICS, 1)
    (line,) = said
    assert line.startswith(f"training.tracking.mlflow: {url} does not record: ")
    assert line.endswith("the training goes on without it") and "\n" not in line
    assert read_curves(tmp_path)[TRAINING_LOSS] == pytest.approx({1: 0.9})


def test_login_comes_from_the_environment_and_a_server_that_goes_away_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    with mlflow_server(tmp_path, with_login=True) as url:
        with Tracking([run_of(url, "hhh")], said.append) as tracking:
            tracking.start([], {})
        assert len(said) == 1 and "401" in said[0]

        for name, value in zip(("USERNAME", "PASSWORD"), LOGIN, strict=True):
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
        with Tracking([run_of(url, "hhh")], said.append) as tracking:
            tracking.start([0.5], {})
        assert len(said) == 1
        assert curve(url, only_run(url), TRAINING_LOSS) == {1: 0.5}
        outlives = Tracking([run_of(url, "iii")], said.append)
        outlives.start([], {})
    assert len(said) == 1
    with outlives:
        outlives.step_done(1, 0.9, 1e-4, None)
        outlives.evaluated(METRICS, 1)
    assert len(said) == 2


def test_a_run_of_the_environment_is_not_touched(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_RUN_ID and MLFLOW_EXPERIMENT_NAME are for programs that choose no run."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
    with Tracking([run_of(server, "iii", "named")], print) as tracking:
        tracking.start([0.5], {})
    assert curve(server, only_run(server, "named"), TRAINING_LOSS) == {1: 0.5}
    assert MlflowClient(server).get_experiment_by_name("elsewhere") is None


def test_nothing_is_told_to_the_makers_of_mlflow(server: str) -> None:
    Tracking([run_of(server, "jjj", "private")], print).start([], {})
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_parameters_are_what_determines_the_result() -> None:
    spec = TrainingSpec(
        lora=Lora(r=5, target_modules=["q_proj", "v_proj"]), epochs=1.5, prompt_template="Вот: {text}"
    )
    found = parameters_of(spec)
    wanted = {
        "lora.r": "5",
        "lora.targetModules": '["q_proj", "v_proj"]',
        "epochs": "1.5",
        "promptTemplate": "Вот: {text}",
    }
    assert wanted.items() <= found.items()
    assert not [
        name for name in found if name.split(".")[0] in ("resources", "tracking", "checkpointSteps", "pod")
    ]
