from __future__ import annotations

import pytest

from toxicity_api.spec import LoadTestSpec
from toxicity_api.spec.serving import Autoscaling
from toxicity_operator.decide.stages import autoscaler_bounds
from toxicity_operator.manifests.autoscaler import Bounds

AUTOSCALING = Autoscaling(min_replicas=2, max_replicas=5)
PINNED = LoadTestSpec()


@pytest.mark.parametrize(("replicas", "held"), [(2, 2), (4, 4), (5, 5), (1, 2), (7, 5)])
def test_replicas_are_held_while_a_load_test_is_on(replicas: int, held: int) -> None:
    assert autoscaler_bounds(AUTOSCALING, PINNED, True, replicas) == Bounds(held, held)


def test_pin_holds_itself_at_the_next_look() -> None:
    once = autoscaler_bounds(AUTOSCALING, PINNED, True, 4)
    assert autoscaler_bounds(AUTOSCALING, PINNED, True, once.highest) == once


@pytest.mark.parametrize(
    ("load_test", "test_is_on", "replicas"),
    [(PINNED, False, 4), (LoadTestSpec(pin_replicas=False), True, 4), (PINNED, True, 0), (PINNED, True, None)],
)
def test_bounds_are_the_specs_otherwise(load_test: LoadTestSpec, test_is_on: bool, replicas: int | None) -> None:
    assert autoscaler_bounds(AUTOSCALING, load_test, test_is_on, replicas) == Bounds(2, 5)
