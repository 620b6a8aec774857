"""A whole run with a simulated service: what it concludes when replicas change, and what it is compared with."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.loadtest.service import TEXTS, Service, running_service
from support.loadtest.windows import SimulatedService
from toxicity_api.loadtest_status import Baseline, BucketResult, Comparison, LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.corpus import Corpus
from toxicity_loadtest.measurement import LoadGenerator
from toxicity_loadtest.publish import ServingDeployment, StreamPublisher
from toxicity_loadtest.stage import LoadTest
from toxicity_store.artifacts import VolumeStore


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


class Replicas(StreamPublisher):
    """A Deployment with one of `replicas` at each look, at last the last one."""

    def __init__(self, replicas: Sequence[int], previous: LoadTestStatus | None = None) -> None:
        super().__init__(io.StringIO(), previous)
        self._seen = list(replicas)

    def serving_deployment(self) -> ServingDeployment | None:
        return ServingDeployment(self._seen.pop(0) if len(self._seen) > 1 else self._seen[0], None)


@dataclass(frozen=True)
class Simulation:
    """A service of one server that takes `seconds` for a request."""

    seconds: float

    def ceiling(self, corpus: Corpus) -> float | None:
        return None

    @contextmanager
    def generator(self, corpus: Corpus) -> Iterator[LoadGenerator]:
        yield SimulatedService(lambda name: self.seconds, users=256)


def run(
    folder: Path, service: Service, publisher: StreamPublisher, seconds: float = 0.05, **fields: Any
) -> LoadTestStatus:
    spec = {"maxLength": 100, "secondsPerBucket": 5, "warmupSeconds": 0} | fields
    texts = folder / "test.csv"
    texts.write_text(TEXTS, encoding="utf-8")
    config = LoadTestConfig(
        model="demo", namespace="default", fingerprint="new", url=service.url, artifacts=folder, texts_path=texts,
        serving_deployment="demo-serve", serving_fingerprint="slow", load_test=LoadTestSpec.model_validate(spec),
    )  # fmt: skip
    return LoadTest(config, publisher, VolumeStore, ready_seconds=10).run(Simulation(seconds))


@pytest.mark.parametrize(("replicas", "changed"), [([2], None), ([2, 2, 3], True), ([2, 3, 2], True)])
def test_replica_change_during_the_run_leaves_no_conclusions(
    tmp_path: Path, service: Service, replicas: list[int], changed: bool | None
) -> None:
    status = run(tmp_path, service, Replicas(replicas))
    assert status.state == "Complete"
    assert (status.replicas_at_start, status.replicas_changed) == (2, changed)
    assert (status.conclusions is None) is bool(changed)


def slow_run() -> LoadTestStatus:
    """The status after version `slow` was compared with version `good` and was worse."""
    p95 = {"p95CorrectedSeconds": 0.1, "p95CorrectedLowSeconds": 0.09, "p95CorrectedHighSeconds": 0.11}
    mixed = {"name": "mixed", "requests": 50, "failures": 0, "actualRps": 10.0, "requestedRps": 10.0}
    of_load: dict[str, Any] = {"arrivals": "poisson", "sloP95Seconds": 1.0, "mode": "fixed"}
    good = Baseline.model_validate(
        of_load | {"fingerprint": "first", "servingFingerprint": "good", "replicas": 2, "mixed": mixed | p95}
    )
    slow = {key: 4 * value for key, value in p95.items()}
    return LoadTestStatus.model_validate(
        of_load
        | {"fingerprint": "second", "runId": "1", "state": "Complete", "users": 256, "requestedRps": 10.0}
        | {"servingFingerprint": "slow", "replicasAtEnd": 2}
    ).model_copy(
        update={
            "baseline": good,
            "comparison": Comparison(regressed=True, message="p95"),
            "mixed": BucketResult.model_validate(mixed | slow),
        }
    )


def test_second_run_of_a_slower_version_is_compared_with_the_version_before(
    tmp_path: Path, service: Service
) -> None:
    status = run(tmp_path, service, Replicas([2], slow_run()), seconds=0.09)
    assert status.baseline is not None and status.baseline.serving_fingerprint == "good"
    assert status.comparison is not None and status.comparison.regressed
