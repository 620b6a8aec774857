"""The cache on a node saves downloads. Whatever happens to it, a pod gets the files that the manifest names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.store.artifacts import LARGE, contents, make_folder, start_adding
from support.store.server import S3Server, spec_of
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, CacheFolder, FetchConfig, InputFolder
from toxicity_store.artifacts import BucketStore
from toxicity_store.cache import FileCache
from toxicity_store.errors import ArtifactDamaged
from toxicity_store.manifest import describe_file

ROOMY = 10**9
SECONDS = 20.0
WEIGHTS = "model/weights.safetensors"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def of_pod(store: BucketStore, cache: Path, size: int = ROOMY) -> BucketStore:
    """The store of a pod that starts on the node of the cache."""
    return replace(store, cache=FileCache(cache, size))


def lose_files(server: S3Server) -> None:
    """Removes all objects except the manifests."""
    for path in server.files():
        if not path.endswith("manifest.json"):
            (server.bucket / "team" / path).unlink()


def cached(cache: Path, file: Path) -> Path:
    """Where the cache keeps a file of this content."""
    return cache / f"sha256-{describe_file(file).sha256}"


def cached_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())


def test_second_pod_of_a_node_reads_only_the_manifest(
    store: BucketStore, server: S3Server, cache: Path, tmp_path: Path
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    for pod in ("first", "second"):
        of_pod(store, cache).fetch(tmp_path / pod / "train-abc")
        assert contents(tmp_path / pod / "train-abc") == contents(made)
        lose_files(server)
    with pytest.raises(ArtifactDamaged):
        store.fetch(tmp_path / "without" / "train-abc")


@pytest.mark.parametrize("damage", ["changed", "shorter", "longer", "empty"])
def test_damaged_file_of_the_cache_is_downloaded_again(
    store: BucketStore, server: S3Server, cache: Path, tmp_path: Path, damage: str
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    of_pod(store, cache).fetch(tmp_path / "first" / "train-abc")
    content = (made / WEIGHTS).read_bytes()
    damaged = {"changed": content[:-1] + b"?", "shorter": content[:-1], "longer": content + b"?", "empty": b""}
    cached(cache, made / WEIGHTS).write_bytes(damaged[damage])
    for pod in ("second", "third"):
        of_pod(store, cache).fetch(tmp_path / pod / "train-abc")
        assert contents(tmp_path / pod / "train-abc") == contents(made)
        lose_files(server)


def test_damaged_artifact_does_not_enter_the_cache(
    store: BucketStore, server: S3Server, cache: Path, tmp_path: Path
) -> None:
    store.publish(make_folder(tmp_path / "a" / "train-abc", 1, large=10))
    (weights,) = (path for path in server.files() if path.endswith(WEIGHTS))
    (server.bucket / "team" / weights).write_bytes(bytes(10))
    with pytest.raises(ArtifactDamaged):
        of_pod(store, cache).fetch(tmp_path / "first" / "train-abc")
    assert cached_bytes(cache) == 0


def test_another_artifact_of_the_same_name_replaces_the_first(
    store: BucketStore, server: S3Server, cache: Path, tmp_path: Path
) -> None:
    for seed in (1, 2):
        made = make_folder(tmp_path / f"made-{seed}" / "train-abc", seed, large=1000)
        store.publish(made)
        of_pod(store, cache).fetch(tmp_path / f"pod-{seed}" / "train-abc")
        assert contents(tmp_path / f"pod-{seed}" / "train-abc") == contents(made)
        store.remove("train-abc")


def test_files_of_an_interrupted_download_enter_the_cache(store: BucketStore, cache: Path, tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1, large=1000)
    store.publish(made)
    manifest = store.manifest("train-abc")
    assert manifest is not None
    shutil.copytree(made, tmp_path / "pod" / f"train-abc.partial-{manifest.attempt}")
    of_pod(store, cache).fetch(tmp_path / "pod" / "train-abc")
    assert cached(cache, made / WEIGHTS).read_bytes() == (made / WEIGHTS).read_bytes()


def publish_three(store: BucketStore, folder: Path) -> list[Path]:
    """Three artifacts, each of a little more than 1000 bytes."""
    made = [make_folder(folder / "made" / f"train-{seed}", seed, large=1000) for seed in (1, 2, 3)]
    for each in made:
        store.publish(each)
    return made


def test_least_recently_used_files_are_removed_first(store: BucketStore, cache: Path, tmp_path: Path) -> None:
    first, second, third = publish_three(store, tmp_path)
    size = 2500
    for pod, name in enumerate(["train-1", "train-2", "train-1", "train-3"]):
        of_pod(store, cache, size).fetch(tmp_path / f"pod-{pod}" / name)
        for path in cache.rglob("*"):  # as if an hour had passed
            os.utime(path, (path.stat().st_atime - 3600, path.stat().st_mtime - 3600))
    kept = [cached(cache, made / WEIGHTS).exists() for made in (first, second, third)]
    assert kept == [True, False, True]
    assert cached_bytes(cache) <= size


def test_smaller_size_is_obeyed_when_the_next_pod_starts(store: BucketStore, cache: Path, tmp_path: Path) -> None:
    publish_three(store, tmp_path)
    for name in ("train-1", "train-2", "train-3"):
        of_pod(store, cache).fetch(tmp_path / "before" / name)
    of_pod(store, cache, 1500).fetch(tmp_path / "after" / "train-3")
    assert 1000 < cached_bytes(cache) <= 1500


def test_files_of_the_starting_pod_do_not_displace_each_other(
    store: BucketStore, cache: Path, tmp_path: Path
) -> None:
    first, second, _ = publish_three(store, tmp_path)
    pod = of_pod(store, cache, 1500)
    for name in ("train-1", "train-2"):
        pod.fetch(tmp_path / "pod" / name)
        assert contents(tmp_path / "pod" / name) == contents(tmp_path / "made" / name)
    assert cached(cache, first / WEIGHTS).exists() and not cached(cache, second / WEIGHTS).exists()


def test_file_larger_than_the_cache_removes_nothing(store: BucketStore, cache: Path, tmp_path: Path) -> None:
    publish_three(store, tmp_path)
    of_pod(store, cache, 1500).fetch(tmp_path / "pod" / "train-1")
    before = cached_bytes(cache)
    large = make_folder(tmp_path / "made" / "train-large", 9, large=2000)
    store.publish(large)
    of_pod(store, cache, 1500).fetch(tmp_path / "pod" / "train-large")
    assert contents(tmp_path / "pod" / "train-large") == contents(large)
    assert before <= cached_bytes(cache) <= 1500


@pytest.mark.parametrize("place", ["missing", "file"])
def test_pod_starts_without_a_usable_cache(
    store: BucketStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1, large=10)
    store.publish(made)
    if place == "file":
        (tmp_path / "cache").write_text("not a folder")
    of_pod(store, tmp_path / "cache").fetch(tmp_path / "pod" / "train-abc")
    assert contents(tmp_path / "pod" / "train-abc") == contents(made)
    assert f"cache_not_written folder={tmp_path / 'cache'}" in caplog.text


def run_fetch(server: S3Server, secrets: Path, cache: Path, pod: Path, mount: str) -> str:
    """The init container's program, after `mount` at the cache as $0 in a mount namespace of its own; its log."""
    config = FetchConfig(
        object_store=spec_of(server.endpoint),
        artifacts=pod,
        inputs=[InputFolder(path=pod / "train-abc")],
        cache=CacheFolder(path=cache, size_bytes=ROOMY),
    )
    program = [sys.executable, "-m", "toxicity_store", "fetch", "--object-store-secrets", str(secrets)]
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', str(cache), *program],
        env={**os.environ, STAGE_CONFIG_VARIABLE: config.model_dump_json(by_alias=True)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'
FULL = 'mount -t tmpfs -o size=1m tmpfs "$0"'


def test_full_disk_only_leaves_the_file_out(
    store: BucketStore, server: S3Server, secrets: Path, cache: Path, tmp_path: Path
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    log = run_fetch(server, secrets, cache, tmp_path / "pod", FULL)
    assert contents(tmp_path / "pod" / "train-abc") == contents(made)
    assert "cache_full" in log


def test_read_only_cache_is_read(
    store: BucketStore, server: S3Server, secrets: Path, cache: Path, tmp_path: Path
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    log = run_fetch(server, secrets, cache, tmp_path / "empty", READ_ONLY)
    assert contents(tmp_path / "empty" / "train-abc") == contents(made)
    assert "cache_not_written" in log and "Read-only file system" in log
    of_pod(store, cache).fetch(tmp_path / "writer" / "train-abc")
    lose_files(server)
    log = run_fetch(server, secrets, cache, tmp_path / "filled", READ_ONLY)
    assert contents(tmp_path / "filled" / "train-abc") == contents(made)
    assert "cache_not_written" not in log


def test_pods_that_start_at_once_share_the_cache(
    store: BucketStore, server: S3Server, cache: Path, tmp_path: Path
) -> None:
    made = make_folder(tmp_path / "a" / "train-abc", 1)
    store.publish(made)
    begin = threading.Barrier(3)

    def start(pod: int) -> None:
        begin.wait()
        of_pod(store, cache, LARGE + 1000).fetch(tmp_path / f"pod-{pod}" / "train-abc")

    pods = [threading.Thread(target=start, args=(pod,)) for pod in range(3)]
    for each in pods:
        each.start()
    for each in pods:
        each.join()
    lose_files(server)
    of_pod(store, cache).fetch(tmp_path / "pod-3" / "train-abc")
    assert [contents(tmp_path / f"pod-{pod}" / "train-abc") == contents(made) for pod in range(4)] == [True] * 4
    assert cached_bytes(cache) <= LARGE + 1000


@pytest.mark.parametrize("written", [0, 1, 3_000_000, LARGE])
def test_killed_writer_leaves_no_file_and_the_next_pod_cleans_up(
    cache: Path, tmp_path: Path, wait_for: Callable[..., object], written: int
) -> None:
    """The writer reads a pipe, so that it cannot have copied more bytes when it is killed."""
    made = make_folder(tmp_path / "made" / "train-abc", 1)
    pipe = tmp_path / "pipe" / WEIGHTS
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    writer = start_adding(cache, tmp_path / "pipe", {WEIGHTS: describe_file(made / WEIGHTS)})
    content = (made / WEIGHTS).read_bytes()
    with pipe.open("wb", buffering=0) as feed:
        for start in range(0, written, 1 << 16):
            feed.write(content[start : min(start + (1 << 16), written)])
        wait_for("an unfinished file", lambda: list(cache.glob("*.unfinished")), SECONDS)
        writer.kill()
        writer.join()
    assert not cached(cache, made / WEIGHTS).exists()
    FileCache(cache, ROOMY).add(made, {WEIGHTS: describe_file(made / WEIGHTS)})
    assert list(cache.glob("*.unfinished")) == []
    assert cached(cache, made / WEIGHTS).read_bytes() == content


def test_links_that_another_pod_has_left_lead_nowhere(cache: Path, tmp_path: Path) -> None:
    """Another pod of the node may not reach the files of this one, neither by a write nor by a removal."""
    made = make_folder(tmp_path / "made", 1, large=1000)
    own = tmp_path / "own"
    own.mkdir()
    (own / "model").write_text("of this pod")
    cached(cache, made / WEIGHTS).symlink_to(own / "model")
    (cache / "sha256-of-something").symlink_to(own / "model")
    (cache / "sha256").symlink_to(own)
    unfinished = cache / f"{describe_file(made / WEIGHTS).sha256}.unfinished"
    unfinished.symlink_to(own / "model")
    for _ in range(2):
        FileCache(cache, 1001).add(made, {WEIGHTS: describe_file(made / WEIGHTS)})
    assert contents(own) == {"model": b"of this pod"}
    assert not cached(cache, made / WEIGHTS).is_symlink()
    assert cached(cache, made / WEIGHTS).read_bytes() == (made / WEIGHTS).read_bytes()


def test_open_file_can_be_read_to_its_end_after_its_removal(cache: Path, tmp_path: Path) -> None:
    first, second = (make_folder(tmp_path / name, seed, large=1000) for seed, name in enumerate("ab"))
    FileCache(cache, ROOMY).add(first, {WEIGHTS: describe_file(first / WEIGHTS)})
    with cached(cache, first / WEIGHTS).open("rb") as reader:
        FileCache(cache, 1500).add(second, {WEIGHTS: describe_file(second / WEIGHTS)})
        assert not cached(cache, first / WEIGHTS).exists()
        assert reader.read() == (first / WEIGHTS).read_bytes()
