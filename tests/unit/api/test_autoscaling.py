"""Defaults and validation of `serving.autoscaling`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from support.builders import a_model
from toxicity_api.spec.serving import Autoscaling
from toxicity_operator.errors import InvalidSpec

PROMETHEUS = "https://prometheus.example/prometheus"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, 80),
        ({"metric": "cpu", "target": 30}, 30),
        ({"metric": "inFlight", "prometheusAddress": PROMETHEUS}, 16),
        ({"metric": "inFlight", "prometheusAddress": PROMETHEUS, "target": 4}, 4),
    ],
)
def test_target_has_a_default_of_its_own_for_each_metric(fields: dict[str, Any], wanted: int) -> None:
    assert Autoscaling.model_validate(fields).wanted_value == wanted


def test_requests_in_flight_without_a_prometheus_name_the_field_and_the_remedy() -> None:
    with pytest.raises(InvalidSpec) as refusal:
        a_model().with_spec("serving.autoscaling", {"metric": "inFlight"}).build()
    for word in ("serving.autoscaling", "prometheusAddress", "set metric to cpu"):
        assert word in str(refusal.value)


@pytest.mark.parametrize("address", ["", "prometheus:9090", "ftp://prometheus", "http://", "http://a b"])
def test_address_that_is_no_url_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="prometheusAddress"):
        Autoscaling.model_validate({"metric": "inFlight", "prometheusAddress": address})
