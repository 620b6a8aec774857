"""An artifact in an object store is complete or absent, and what a pod downloads is what another uploaded."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from support.store.artifacts import contents, make_folder
from support.store.server import S3Server, open_store
from toxicity_store.artifacts import BucketStore
from toxicity_store.errors import ArtifactDamaged, ArtifactMissing, ScratchFull
from toxicity_store.manifest import Manifest, manifest_key


def edit_manifest(server: S3Server, name: str, change: dict[str, object]) -> None:
    path = server.bucket / "team" / manifest_key(name)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def stored_file(server: S3Server, end: str) -> Path:
    (found,) = (server.bucket / "team" / path for path in server.files() if path.endswith(end))
    return found


def test_published_folder_is_fetched_by_another_pod(store: BucketStore, tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    assert store.read(made, "result.json") is None
    assert store.publish(made)
    fetched = tmp_path / "b" / "train-abc"
    store.fetch(fetched)
    assert contents(fetched) == contents(made)
    assert store.read(fetched, "result.json") == (made / "result.json").read_bytes()
    assert store.read(fetched, "no-such-file") is None


def test_only_the_named_parts_are_fetched(store: BucketStore, tmp_path: Path) -> None:
    store.publish(make_folder(tmp_path / "a" / "train-abc", 1, large=10))
    fetched = tmp_path / "b" / "train-abc"
    store.fetch(fetched, ["splits", "result.json", "absent"])
    assert sorted(contents(fetched)) == ["result.json", "splits/test.csv"]


def test_second_attempt_keeps_the_first_artifact_and_leaves_nothing(
    store: BucketStore, server: S3Server, tmp_path: Path
) -> None:
    first = make_folder(tmp_path / "a" / "train-abc", 1, large=10)
    assert store.publish(first)
    before = server.files()
    assert not store.publish(make_folder(tmp_path / "b" / "train-abc", 2, large=10))
    assert server.files() == before
    store.fetch(tmp_path / "c" / "train-abc")
    assert contents(tmp_path / "c" / "train-abc") == contents(first)


def test_two_writers_at_once_publish_one_artifact(store: BucketStore, server: S3Server, tmp_path: Path) -> None:
    made = {seed: make_folder(tmp_path / str(seed) / "train-abc", seed) for seed in (1, 2)}
    outcomes: dict[int, bool] = {}
    begin = threading.Barrier(2)

    def write(seed: int) -> None:
        begin.wait()
        outcomes[seed] = store.publish(made[seed])

    threads = [threading.Thread(target=write, args=(seed,)) for seed in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == [False, True]
    winner = next(seed for seed, won in outcomes.items() if won)
    store.fetch(tmp_path / "c" / "train-abc")
    assert contents(tmp_path / "c" / "train-abc") == contents(made[winner])
    attempts = {path.split("/")[1] for path in server.files()} - {"manifest.json"}
    assert len(attempts) == 1, "the files of the other attempt are removed"


def test_missing_artifact_names_the_field_that_makes_it_again(store: BucketStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"s3://models/team/quantize-abc .* spec.quantization.runId"):
        store.fetch(tmp_path / "quantize-abc")
    assert list(tmp_path.glob("quantize-*")) == []


@pytest.mark.parametrize("damage", ["changed", "shorter", "removed", "manifest", "outside"])
def test_damaged_artifact_is_refused(store: BucketStore, server: S3Server, tmp_path: Path, damage: str) -> None:
    store.publish(make_folder(tmp_path / "a" / "train-abc", 1, large=10))
    weights = stored_file(server, "weights.safetensors")
    if damage == "changed":
        weights.write_bytes(bytes(10))
    elif damage == "shorter":
        weights.write_bytes(b"abc")
    elif damage == "removed":
        weights.unlink()
    elif damage == "manifest":
        (server.bucket / "team" / manifest_key("train-abc")).write_text("{")
    else:
        edit_manifest(server, "train-abc", {"files": {"../../escape": {"size": 1, "sha256": "0" * 64}}})
    fetched = tmp_path / "b" / "train-abc"
    named = "manifest" if damage in ("manifest", "outside") else "weights.safetensors"
    with pytest.raises(ArtifactDamaged, match=rf"{named}.*spec.training.runId"):
        store.fetch(fetched)
    assert not fetched.exists()


def test_interrupted_download_continues(store: BucketStore, server: S3Server, tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    small = stored_file(server, "config.json")
    small.rename(small.with_suffix(".hidden"))
    fetched = tmp_path / "b" / "train-abc"
    with pytest.raises(ArtifactDamaged):
        store.fetch(fetched)
    small.with_suffix(".hidden").rename(small)
    (partial,) = fetched.parent.iterdir()
    kept = partial / "model" / "weights.safetensors"
    kept.write_bytes((made / "model" / "weights.safetensors").read_bytes())
    stored_file(server, "weights.safetensors").unlink()
    store.fetch(fetched)
    assert contents(fetched) == contents(made), "the whole file of the interrupted download is used"


def test_artifact_larger_than_the_scratch_space_names_its_field(
    store: BucketStore, server: S3Server, tmp_path: Path
) -> None:
    store.publish(make_folder(tmp_path / "a" / "train-abc", 1, large=10))
    huge = {"model/weights.safetensors": {"size": 10**16, "sha256": "0" * 64}}
    edit_manifest(server, "train-abc", {"files": huge})
    with pytest.raises(ScratchFull, match=r"spec.storage.scratch.size: .* 10000000000 MB; raise"):
        store.fetch(tmp_path / "b" / "train-abc")


def test_manifest_of_a_later_version_is_read(store: BucketStore, server: S3Server, tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1, large=10)
    store.publish(made)
    edit_manifest(server, "train-abc", {"compression": None})
    manifest = store.manifest("train-abc")
    assert isinstance(manifest, Manifest) and set(manifest.files) == set(contents(made))


def test_unfinished_attempts_are_removed_by_the_next_success(
    store: BucketStore, server: S3Server, secrets: Path, tmp_path: Path
) -> None:
    store.client.create("train-abc/dead-pod-1/model/weights", b"half")
    store.client.create("train-abcdef/dead-pod-1/model/weights", b"of another artifact")
    open_store(server.endpoint, secrets).publish(make_folder(tmp_path / "train-abc", 1, large=10))
    left = [path for path in server.files() if "dead-pod" in path]
    assert left == ["train-abcdef/dead-pod-1/model/weights"]
