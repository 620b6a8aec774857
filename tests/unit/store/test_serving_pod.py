"""A serving pod downloads the model before the server starts, and adds the results of later load tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.store.artifacts import contents, make_folder
from support.store.server import S3Server, spec_of, write_secret
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, FetchConfig, InputFolder
from toxicity_store.__main__ import add_new, main
from toxicity_store.artifacts import BucketStore

SECONDS = 20.0


def config_of(server: S3Server, pod: Path) -> FetchConfig:
    inputs = [
        InputFolder(path=pod / "quantize-abc", parts=["model", "result.json"]),
        InputFolder(path=pod / "train-abc", parts=["splits"]),
    ]
    return FetchConfig(
        object_store=spec_of(server.endpoint),
        artifacts=pod,
        inputs=inputs,
        watched_parts=["status.json", "p95.png"],
    )


def set_config(monkeypatch: pytest.MonkeyPatch, config: FetchConfig) -> None:
    monkeypatch.setenv(STAGE_CONFIG_VARIABLE, config.model_dump_json(by_alias=True))


def publish_load_test(store: BucketStore, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("status.json", "p95.png", "requests.csv"):
        (folder / name).write_text(f"{name} of {folder.name}")
    assert store.publish(folder)


@pytest.fixture
def stored(store: BucketStore, tmp_path: Path) -> Path:
    """The folders of the stages, which are published."""
    for seed, name in enumerate(("train-abc", "quantize-abc"), start=1):
        store.publish(make_folder(tmp_path / "stages" / name, seed))
    return tmp_path / "stages"


def test_pod_has_the_model_and_the_report_before_the_server_starts(
    stored: Path,
    store: BucketStore,
    server: S3Server,
    secrets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish_load_test(store, tmp_path / "loadtest-1")
    pod = tmp_path / "pod"
    set_config(monkeypatch, config_of(server, pod))
    arguments = ["--object-store-secrets", str(secrets), "--termination-log", str(tmp_path / "log")]
    assert main(["fetch", *arguments]) == 0
    assert contents(pod / "quantize-abc" / "model") == contents(stored / "quantize-abc" / "model")
    assert sorted(contents(pod / "train-abc")) == ["splits/test.csv"]
    assert sorted(contents(pod / "loadtest-1")) == ["p95.png", "status.json"]
    assert main(["fetch", *arguments]) == 0, "a restarted container finds all folders"


def test_failed_download_leaves_a_message_and_an_exit_code(
    stored: Path, server: S3Server, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_config(monkeypatch, config_of(server, tmp_path / "pod"))
    log = tmp_path / "log"
    arguments = ["--object-store-secrets", str(secrets), "--termination-log", str(log)]
    weights = next(path for path in server.files() if path.startswith("quantize") and path.endswith("safetensors"))
    (server.bucket / "team" / weights).write_bytes(b"changed")
    assert main(["fetch", *arguments]) == 42
    assert "spec.quantization.runId" in log.read_text()
    assert not (tmp_path / "pod" / "quantize-abc").exists()
    write_secret(secrets, AWS_ACCESS_KEY_ID="wrong")
    assert main(["fetch", *arguments]) == 42
    assert "Secret store-key" in log.read_text()


def test_damaged_load_test_does_not_stop_the_server(store: BucketStore, server: S3Server, tmp_path: Path) -> None:
    for name in ("loadtest-1", "loadtest-2"):
        publish_load_test(store, tmp_path / name)
    damaged = next(
        path for path in server.files() if path.startswith("loadtest-1") and path.endswith("status.json")
    )
    (server.bucket / "team" / damaged).unlink()
    add_new(store, config_of(server, tmp_path / "pod"))
    assert [folder.name for folder in (tmp_path / "pod").iterdir() if "." not in folder.name] == ["loadtest-2"]


def test_load_tests_keep_the_order_in_which_they_were_published(
    store: BucketStore, server: S3Server, tmp_path: Path
) -> None:
    for name in ("loadtest-9", "loadtest-1"):
        publish_load_test(store, tmp_path / name)
        manifest = server.bucket / "team" / name / "manifest.json"
        at = time.time() - (500 if name == "loadtest-9" else 100)
        os.utime(manifest, (at, at))
    pod = tmp_path / "pod"
    add_new(store, config_of(server, pod))
    newest = max(pod.iterdir(), key=lambda folder: folder.stat().st_mtime)
    assert newest.name == "loadtest-1"


def test_sidecar_adds_new_load_tests_until_it_is_terminated(
    store: BucketStore, server: S3Server, secrets: Path, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    pod = tmp_path / "pod"
    document = config_of(server, pod).model_dump_json(by_alias=True)
    options = ["--object-store-secrets", str(secrets), "--watch-seconds", "0.05"]
    sidecar = subprocess.Popen(
        [sys.executable, "-m", "toxicity_store", "watch", *options],
        env={**os.environ, STAGE_CONFIG_VARIABLE: document},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        publish_load_test(store, tmp_path / "loadtest-1")
        wait_for("the first load test", (pod / "loadtest-1" / "status.json").is_file, SECONDS)
        server.kill()
        server.start()
        publish_load_test(store, tmp_path / "loadtest-2")
        wait_for("the next load test", (pod / "loadtest-2" / "status.json").is_file, SECONDS)
        sidecar.send_signal(signal.SIGTERM)
        log, _ = sidecar.communicate(timeout=SECONDS)
    finally:
        sidecar.kill()
    assert sidecar.returncode == 0, log
