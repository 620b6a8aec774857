"""Failures of the server, the network, the settings and the writer end in a retry or in a message with a remedy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from support.store.artifacts import contents, make_folder, start_publishing
from support.store.server import (
    BUCKET,
    KEY,
    NO_RETRY,
    SECRET,
    Front,
    S3Server,
    open_store,
    running,
    spec_of,
    write_secret,
)
from toxicity_api.spec import ObjectStore
from toxicity_cluster.pki import ensure_pki
from toxicity_cluster.settings import Settings
from toxicity_store.artifacts import BucketStore
from toxicity_store.client import connect
from toxicity_store.errors import StoreRefused, StoreUnavailable

OUTAGE_SECONDS = 0.5


def refusal(store: BucketStore, folder: Path) -> StoreRefused:
    """The error of the check, which must equal those of reading and writing."""
    errors = []
    for use in (store.check, lambda: store.publish(folder), lambda: store.fetch(folder.with_name("train-other"))):
        with pytest.raises(StoreRefused) as caught:
            use()
        errors.append(caught.value)
    assert len({error.reason for error in errors}) == 1
    for error in errors:
        assert SECRET not in str(error) and KEY not in str(error)
        assert error.__cause__ is None, "the original error quotes the request"
    return errors[0]


@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_name_the_secret(server: S3Server, secrets: Path, tmp_path: Path, key: str) -> None:
    write_secret(secrets, **{key: "wrong"})
    error = refusal(open_store(server.endpoint, secrets), make_folder(tmp_path / "train-abc", 1, large=10))
    assert error.reason == "StoreAccessDenied"
    assert "spec.storage.objectStore" in str(error) and "Secret store-key" in str(error)
    assert server.files() == []


def test_missing_bucket_names_the_url(server: S3Server, secrets: Path, tmp_path: Path) -> None:
    store = BucketStore(connect(spec_of(server.endpoint, "no-such-bucket"), secrets, NO_RETRY))  # type: ignore[arg-type]
    error = refusal(store, make_folder(tmp_path / "train-abc", 1, large=10))
    assert error.reason == "BucketMissing"
    assert "spec.storage.objectStore.url: the bucket of s3://no-such-bucket/team does not exist" in str(error)


def test_missing_key_of_the_secret_is_named(tmp_path: Path) -> None:
    secrets = write_secret(tmp_path, AWS_ACCESS_KEY_ID=KEY)
    with pytest.raises(StoreRefused, match="Secret store-key has no AWS_SECRET_ACCESS_KEY"):
        connect(spec_of("http://127.0.0.1:1"), secrets)
    azure = ObjectStore(url="az://models", secret_name="azure-key")
    with pytest.raises(
        StoreRefused, match="Secret azure-key has no AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS"
    ):
        connect(azure, secrets)
    with pytest.raises(StoreRefused, match="Secret google-key has no GOOGLE_SERVICE_ACCOUNT_KEY"):
        connect(ObjectStore(url="gs://models", secret_name="google-key"), secrets)


def test_malformed_credential_is_not_quoted(tmp_path: Path) -> None:
    secrets = write_secret(tmp_path, GOOGLE_SERVICE_ACCOUNT_KEY='{"private_key": "hush-hush"}')
    with pytest.raises(StoreRefused) as caught:
        connect(ObjectStore(url="gs://models", secret_name="google-key"), secrets)
    assert "secretName" in str(caught.value) and "hush" not in str(caught.value)


def test_every_cloud_is_opened_without_a_secret(tmp_path: Path) -> None:
    azure = ObjectStore(url="az://models/team", endpoint="https://account.blob.core.windows.net")
    google = ObjectStore(url="gs://models/team")
    for spec in (ObjectStore(url="s3://models/team", region="eu-central-1"), google, azure):
        assert connect(spec, tmp_path).spec == spec


def test_identity_of_the_pod_is_used_without_a_secret(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ObjectStore(url=f"s3://{BUCKET}/team", endpoint=server.endpoint)
    with pytest.raises(
        StoreRefused, match="give the ServiceAccount of the pod access to the bucket, or set secretN"
    ):
        BucketStore(connect(spec, tmp_path, NO_RETRY)).check()  # type: ignore[arg-type]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    BucketStore(connect(spec, tmp_path, NO_RETRY)).check()  # type: ignore[arg-type]


def test_account_key_of_azure_is_used(tmp_path: Path) -> None:
    secrets = write_secret(
        tmp_path, AZURE_STORAGE_ACCOUNT_NAME="account", AZURE_STORAGE_ACCOUNT_KEY="c2VjcmV0LWtleQ=="
    )
    client = connect(ObjectStore(url="az://models/team", secret_name="azure-key"), secrets)
    assert client.store.config["account_name"] == "account"
    assert "c2VjcmV0LWtleQ==" not in repr(client)


def test_server_that_does_not_answer_names_the_endpoint(server: S3Server, secrets: Path) -> None:
    server.kill()
    with pytest.raises(
        StoreUnavailable, match=r"cannot list the bucket .* check spec.storage.objectStore.endpoint"
    ):
        open_store(server.endpoint, secrets, NO_RETRY).check()


def test_private_authority_is_trusted_only_with_its_certificate(
    versitygw: Path, secrets: Path, tmp_path: Path
) -> None:
    given = Settings.from_environment()
    settings = Settings(cache=given.cache, state=tmp_path / "pki-state", sources=given.sources)
    ensure_pki(settings)
    pair = (settings.pki / "keda-server.crt", settings.pki / "keda-server.key")
    with running(S3Server(versitygw, tmp_path / "server", certificate=pair)) as server:
        with pytest.raises(StoreRefused, match="caSecretName") as caught:
            open_store(server.endpoint, secrets, NO_RETRY).check()
        assert caught.value.reason == "StoreCertificate"
        write_secret(secrets, ca=(settings.pki / "ca.crt").read_text())
        BucketStore(connect(spec_of(server.endpoint, ca_secret="store-ca"), secrets)).check()


@pytest.mark.parametrize("request_number", [2, 4, 6])
def test_server_lost_during_an_upload_is_waited_for(
    server: S3Server, secrets: Path, tmp_path: Path, request_number: int
) -> None:
    front = Front(server.port, restarting(server, request_number))
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store = open_store(front.endpoint, secrets)
    assert store.publish(made)
    store.fetch(tmp_path / "b" / "train-abc")
    assert contents(tmp_path / "b" / "train-abc") == contents(made)


@pytest.mark.parametrize("request_number", [2, 3, 5])
def test_server_lost_during_a_download_is_waited_for(
    server: S3Server, secrets: Path, store: BucketStore, tmp_path: Path, request_number: int
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    front = Front(server.port, restarting(server, request_number))
    open_store(front.endpoint, secrets).fetch(tmp_path / "b" / "train-abc")
    assert contents(tmp_path / "b" / "train-abc") == contents(made)


def restarting(server: S3Server, request_number: int) -> Callable[[int, str], None]:
    """Kills the server at that request, and starts it again after OUTAGE_SECONDS."""

    def on_request(number: int, line: str) -> None:
        if number == request_number:
            server.kill()
            server.later(OUTAGE_SECONDS, server.start)

    return on_request


def test_server_lost_for_longer_than_the_retries_leaves_no_artifact(
    server: S3Server, secrets: Path, tmp_path: Path
) -> None:
    def kill(number: int, line: str) -> None:
        if number == 5:
            server.kill()

    store = open_store(Front(server.port, kill).endpoint, secrets, NO_RETRY)
    with pytest.raises(StoreUnavailable, match=r"cannot write .* check spec.storage.objectStore.endpoint"):
        store.publish(make_folder(tmp_path / "train-abc", 1))
    server.start()
    assert open_store(server.endpoint, secrets).manifest("train-abc") is None


def test_full_store_leaves_no_artifact_and_names_the_url(versitygw: Path, secrets: Path, tmp_path: Path) -> None:
    with running(S3Server(versitygw, tmp_path / "server", tmpfs_bytes=6 << 20)) as server:
        store = open_store(server.endpoint, secrets, NO_RETRY)
        with pytest.raises(StoreUnavailable, match="free space in it, or raise its quota") as caught:
            store.publish(make_folder(tmp_path / "train-abc", 1))
        assert store.manifest("train-abc") is None
        assert caught.value.reason == "StoreFull"
        assert "spec.storage.objectStore.url: s3://models/team is full" in str(caught.value)


@pytest.mark.parametrize("request_number", range(2, 12))
def test_writer_killed_at_any_request_leaves_a_complete_artifact_or_none(
    server: S3Server, secrets: Path, store: BucketStore, tmp_path: Path, request_number: int
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    writer: list[BaseProcess] = []
    started = threading.Event()

    def kill(number: int, line: str) -> None:
        if number == request_number:
            started.wait()
            writer[0].kill()

    front = Front(server.port, kill)
    writer.append(start_publishing(front.endpoint, secrets, made))
    started.set()
    writer[0].join()
    fetched = tmp_path / "b" / "train-abc"
    if store.manifest("train-abc") is not None:
        store.fetch(fetched)
        assert contents(fetched) == contents(made)
        return
    assert writer[0].exitcode != 0
    assert store.publish(made), "the next attempt publishes"
    store.fetch(fetched)
    assert contents(fetched) == contents(made)
    attempts = {path.split("/")[1] for path in server.files()} - {"manifest.json"}
    assert len(attempts) == 1


def test_answer_lost_after_the_manifest_was_written_counts_as_published(
    server: S3Server, secrets: Path, tmp_path: Path
) -> None:
    restarted: list[float] = []

    def restart_after_the_manifest(number: int, line: str) -> None:
        if "manifest.json" in line and line.startswith("PUT") and not restarted:
            restarted.append(time.monotonic())
            server.later(0.05, server.kill)
            server.later(OUTAGE_SECONDS, server.start)

    front = Front(server.port, restart_after_the_manifest)
    made = make_folder(tmp_path / "a" / "train-abc", 1, large=10)
    store = open_store(front.endpoint, secrets)
    assert store.publish(made)
    assert store.read(made, "result.json") == (made / "result.json").read_bytes()
