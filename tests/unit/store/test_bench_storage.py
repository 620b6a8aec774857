"""The figures of the storage benchmark: from the events of a pod and the logs of the real download to the table."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_storage import Bench
from benchmarks.storage_figures import Start, caching_seconds, first_seen, rate, table, transfers
from support.builders import SETTINGS, a_model
from support.store.artifacts import make_folder
from support.store.server import S3Server
from toxicity_api.spec import ToxicityModelSpec
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import DeadlineExceeded, Kubectl
from toxicity_operator.chain import build_chain
from toxicity_store.artifacts import BucketStore
from toxicity_store.cache import FileCache

MADE: dict[str, Any] = {"status": {}}


def a_pod(*conditions: str, server: str = "waiting") -> dict[str, Any]:
    """A pod for which these conditions are True, with the server in this state."""
    found = [{"type": kind, "status": "True"} for kind in conditions] + [{"type": "Ready", "status": "False"}]
    states = [{"name": "load-tests", "state": {"running": {}}}, {"name": "serve", "state": {server: {}}}]
    return {"status": {"conditions": found, "containerStatuses": states}}


def test_resource_on_the_volume_finds_the_stages_of_the_one_in_the_store(tmp_path: Path) -> None:
    images = {part: f"{part}-image:1" for part in ("base-model", "training", "serving", "operator")}
    installation = Installation(Kubectl(tmp_path, tmp_path), tmp_path, images)
    bench = Bench(installation, "n", S3Server(tmp_path, tmp_path), tmp_path, print)
    stored = {"objectStore": bench.store.to_wire(), "nodeCache": {"claimName": "node-models", "size": "10Gi"}}
    chains = []
    for name, storage in (("stored", stored), ("on-volume", {"claimName": "artifacts"})):
        spec = ToxicityModelSpec.model_validate(bench.model(name, storage)["spec"])
        chains.append(build_chain(replace(a_model().build(), spec=spec), SETTINGS))
    in_store, on_volume = chains
    assert in_store.train.fingerprint == on_volume.train.fingerprint
    assert in_store.evaluate.fingerprint == on_volume.evaluate.fingerprint
    assert (in_store.quantize, in_store.loadtest) == (None, None)


def test_milestones_are_counted_from_the_creation_of_the_pod() -> None:
    initialized = ("PodScheduled", "Initialized")
    events = [
        (100.0, MADE),
        (100.25, a_pod("PodScheduled")),
        (104.0, a_pod(*initialized)),
        (105.5, a_pod(*initialized, server="running")),
        (106.5, a_pod(*initialized, server="running")),
        (130.0, a_pod(*initialized, "Ready", server="running")),
        (150.0, a_pod()),
    ]
    assert first_seen(events) == {"scheduled": 0.25, "initialized": 4.0, "server runs": 5.5, "ready": 30.0}


def test_pod_that_never_becomes_ready_names_what_it_reached() -> None:
    with pytest.raises(DeadlineExceeded, match=r"\{'scheduled': 2.0\}"):
        first_seen([(1.0, MADE), (3.0, a_pod("PodScheduled"))])


def test_log_of_a_download_tells_where_the_bytes_came_from(
    store: BucketStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "toxicity_store")
    made = make_folder(tmp_path / "a" / "train-abc", 1, large=5000)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    (tmp_path / "cache").mkdir()
    store.publish(made)
    for pod in ("first", "second"):
        replace(store, cache=FileCache(tmp_path / "cache", 10**9)).fetch(tmp_path / pod / "train-abc")
    found = transfers(caplog.text)
    assert [(each.verb, each.name, each.store_bytes, each.cache_bytes) for each in found] == [
        ("uploaded", "train-abc", size, 0),
        ("fetched", "train-abc", size, 0),
        ("fetched", "train-abc", 0, size),
    ]
    assert all(each.seconds > 0 for each in found) and caching_seconds(caplog.text) >= 0
    assert f"cached bytes={size} " in caplog.text


def test_table_has_the_median_and_the_range_and_fits_a_terminal() -> None:
    log = (
        "INFO fetched name=train-abc store_bytes=536000000 cache_bytes=64000000 seconds=2.500\n"
        "INFO cached bytes=1 seconds=1.50"
    )
    (one,) = transfers(log)
    assert rate([one, one]) == 240.0

    def start(factor: float) -> Start:
        moments = {"scheduled": 0.04, "initialized": 3.21, "server runs": 4.0, "ready": 60.5}
        return Start({name: at * factor for name, at in moments.items()}, [one], caching_seconds(log))

    starts = [start(2), start(1), start(3)]
    text = table(
        {
            "volume": [replace(each, transfers=()) for each in starts],
            "object store": starts,
            "c": starts,
            "d": starts,
        }
    )
    rows = {line[:17].strip(): line[17:].split() for line in text.splitlines()}
    assert rows["initialized, s"][:2] == ["6.4", "3.2–9.6"]
    assert rows["ready, s"][:2] == ["121", "60–182"]
    assert rows["from store, MB"][:3] == ["-", "536", "536–536"]
    assert rows["fetching, MB/s"][1:3] == ["240", "240–240"]
    assert rows["filling cache, s"][0] == "1.5"
    assert max(map(len, text.splitlines())) <= 81
