"""Rules of the CRD on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Api, RequestFailed
from api_server import ApiServer
from builders import ModelBuilder, a_model
from interruption.backends import on_server
from interruption.schedule import NAME
from toxicity_api.base import KIND

pytestmark = pytest.mark.interruption

INT32_MAX = 2**31 - 1
MANY = 3_000_000_000
REFUSED = 422


@pytest.fixture
def api(server: ApiServer) -> Api:
    """A namespace of this test alone."""
    return on_server(server.connect())


def create(api: Api, builder: ModelBuilder) -> dict[str, Any]:
    return api.create(KIND, builder.raw() | {"metadata": {"name": NAME}})


@pytest.mark.parametrize(
    ("path", "value", "highest"),
    [
        ("serving.replicas", MANY, INT32_MAX),
        ("serving.progressDeadlineSeconds", MANY, INT32_MAX),
        ("serving.autoscaling", {"maxReplicas": MANY}, INT32_MAX),
        ("serving.autoscaling", {"target": MANY}, INT32_MAX),
        ("serving.gpus", MANY, 1024),
        ("training.backoffLimit", MANY, INT32_MAX),
        ("training.activeDeadlineSeconds", MANY, INT32_MAX),
        ("quantization.backoffLimit", MANY, INT32_MAX),
        ("evaluation.backoffLimit", MANY, INT32_MAX),
        ("loadTest.activeDeadlineSeconds", MANY, INT32_MAX),
        ("training.seed", 2**32, 2**32 - 1),
        ("dataset.split.seed", 2**32, 2**32 - 1),
        ("training.batchSize", MANY, 65_536),
        ("loadTest.slo", {"p95Seconds": 1e300}, 3600),
    ],
)
def test_number_beyond_its_bound_is_refused_with_the_bound(api: Api, path: str, value: Any, highest: int) -> None:
    with pytest.raises(RequestFailed) as refusal:
        create(api, a_model().with_spec(path, value))
    assert refusal.value.status == REFUSED
    assert f"should be less than or equal to {highest}" in str(refusal.value)
    assert f"spec.{path}" in str(refusal.value)


def test_highest_numbers_are_stored_as_they_are(api: Api) -> None:
    highest = {
        "training.seed": 2**32 - 1, "dataset.split.seed": 2**32 - 1, "training.backoffLimit": INT32_MAX,
        "serving.progressDeadlineSeconds": INT32_MAX, "serving.replicas": INT32_MAX,
    }  # fmt: skip
    wanted = a_model()
    for path, value in highest.items():
        wanted = wanted.with_spec(path, value)
    stored = create(api, wanted)["spec"]
    for path, value in highest.items():
        node = stored
        for key in path.split("."):
            node = node[key]
        assert node == value, path
