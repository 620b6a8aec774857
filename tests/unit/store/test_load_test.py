"""A load test whose texts come from an object store, to which it uploads its folder."""

from __future__ import annotations

from pathlib import Path

from support.loadtest.service import Run, running_service
from support.store.artifacts import contents, make_folder
from support.store.server import S3Server, spec_of, write_secret
from toxicity_api.spec import LoadTestSpec
from toxicity_store.artifacts import BucketStore

SPEC = LoadTestSpec(
    users=4, requested_rps=20, bucket_step=50, max_length=50, seconds_per_bucket=1, warmup_seconds=0
)


def test_two_runs_of_one_fingerprint_are_kept_under_two_names(
    server: S3Server, secrets: Path, store: BucketStore, tmp_path: Path
) -> None:
    store.publish(make_folder(tmp_path / "a" / "train-abc", 1, large=10))
    names = []
    for pod in ("b", "c"):
        (tmp_path / pod).mkdir()
        with running_service() as service:
            run = Run(
                tmp_path / pod,
                service.url,
                SPEC,
                "--object-store-secrets",
                str(secrets),
                object_store=spec_of(server.endpoint),
            )
            ended = run.wait()
        assert ended.exit_code == 0, ended.log
        assert "текст 1" in service.texts, "the texts are those of the stored split"
        names.append(ended.status["artifacts"])
    assert names == ["loadtest-0123abcd", "loadtest-0123abcd-2"]
    for name in names:
        store.fetch(tmp_path / "d" / name)
        assert f'"artifacts": "{name}"' in contents(tmp_path / "d" / name)["status.json"].decode()


def test_wrong_credentials_are_reported_in_the_status(server: S3Server, secrets: Path, tmp_path: Path) -> None:
    write_secret(secrets, AWS_SECRET_ACCESS_KEY="wrong")
    run = Run(
        tmp_path,
        "http://127.0.0.1:1",
        SPEC,
        "--object-store-secrets",
        str(secrets),
        object_store=spec_of(server.endpoint),
    )
    ended = run.wait()
    assert ended.exit_code == 42
    assert ended.result["reason"] == "StoreAccessDenied"
    assert ended.status["state"] == "Failed"
    assert "Secret store-key" in ended.status["message"] and "wrong" not in ended.log
