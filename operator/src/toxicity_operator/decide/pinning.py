"""How many replicas the autoscaler may choose between: the spec's bounds, or one number while a load test runs.

A load test that is scaled under its feet measures two services, so `loadTest.pinReplicas` holds the autoscaler still.
It does so by its bounds, which KEDA hands on to the HorizontalPodAutoscaler that it makes: KEDA's own pause would take
that away, and with it the word on whether the metric is there.
The pin is not stored anywhere: it follows from there being a load test that is due or runs, so it is released whatever
becomes of the test, at the next look of the operator. Pure.
"""

from __future__ import annotations

from toxicity_api.spec import LoadTestSpec
from toxicity_api.spec.serving import Autoscaling
from toxicity_operator.manifests.autoscaler import Bounds


def wanted_bounds(
    autoscaling: Autoscaling, load_test: LoadTestSpec, test_is_on: bool, replicas: int | None
) -> Bounds:
    """The bounds the autoscaler should have now.

    `test_is_on`: a load test's Job is wanted or runs, and nothing but it is waited for. `replicas` are those that
    exist, None where it is not known; outside the spec's bounds the nearest bound is held, and with none there is
    nothing to hold.
    """
    free = Bounds(autoscaling.min_replicas, autoscaling.max_replicas)
    if not (load_test.pin_replicas and test_is_on and replicas):
        return free
    held = min(max(replicas, free.lowest), free.highest)
    return Bounds(held, held)
