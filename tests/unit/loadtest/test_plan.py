"""Plan the replicas by one run, and check the plan by a second one at that number of replicas, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.loadtest.service import Replicas, Run, running_service
from toxicity_api.spec import LoadTestSpec

SECONDS_PER_REQUEST = 0.02
CAPACITY = 1 / SECONDS_PER_REQUEST


def a_spec(wanted: float) -> LoadTestSpec:
    search = {
        "mode": "search",
        "requestedRps": 48,
        "slo": {"p95Seconds": 0.3, "rps": wanted},
        "arrivals": "uniform",
    }
    return LoadTestSpec.model_validate(
        {**search, "bucketStep": 100, "maxLength": 100, "secondsPerBucket": 2, "warmupSeconds": 0}
    )


def test_second_run_at_the_planned_replicas_carries_what_the_first_one_predicts(tmp_path: Path) -> None:
    with running_service() as service:
        service.hold = Replicas(1, SECONDS_PER_REQUEST)
        first = Run(tmp_path, service.url, a_spec(80.0), "--replicas", "1")
        plan = first.wait().status["conclusions"]
    assert plan["mixedRpsPerReplica"] == pytest.approx(CAPACITY, rel=0.1)
    assert (plan["replicasNeeded"], plan["source"], plan["basis"]) == (2, "mix", "search")
    for replicas in (1, 2):
        folder = tmp_path / str(replicas)
        folder.mkdir()
        options = ("--replicas", str(replicas), "--previous", str(first.folder / "status.json"))
        with running_service() as service:
            service.hold = Replicas(replicas, SECONDS_PER_REQUEST)
            second = Run(folder, service.url, a_spec(80.0), *options).wait().status["conclusions"]
        assert second["predictedRps"] == pytest.approx(plan["mixedRpsPerReplica"] * replicas, abs=1e-3)
        assert second["measuredRps"] == pytest.approx(CAPACITY * replicas, rel=0.1)
        assert abs(second["predictionError"]) < 0.1
    assert second["measuredRps"] >= 80.0, "the replicas of the plan carry the wanted rate"
