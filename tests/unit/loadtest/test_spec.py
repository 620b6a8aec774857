"""Every load test that the API admits can complete: its figures fit the status, and conclusions exist."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from support.builders import a_model
from support.loadtest.windows import SimulatedService
from toxicity_api.buckets import length_buckets
from toxicity_api.crd import RULES, structural_schema
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_api.status import ToxicityModelStatus
from toxicity_loadtest.conclusions import max_length_at_requested_rps
from toxicity_loadtest.measurement import WindowRunner
from toxicity_operator.errors import InvalidSpec
from toxicity_serving.http.schemas import MAX_CHARACTERS

STATUS = structural_schema(ToxicityModelStatus, defaults=False)["properties"]["loadTest"]
MAX_BUCKETS = 200
SIZES = st.integers(1, 25_000)
RATES = st.one_of(st.floats(1e-12, 30.0), st.sampled_from([0.1, 1.0, 10.0, 10.01, 30.0]))


def admitted(fields: dict[str, Any]) -> LoadTestSpec:
    """Build the spec. If the API refuses it, Hypothesis tries another example."""
    try:
        return LoadTestSpec.model_validate(fields)
    except ValidationError:
        assume(False)
        raise


@given(step=st.one_of(st.integers(1, 200), SIZES), longest=SIZES)
def test_figures_of_every_admitted_load_test_fit_the_status(step: int, longest: int) -> None:
    spec = admitted({"bucketStep": step, "maxLength": longest})
    buckets = length_buckets(spec.bucket_step, spec.max_length)
    results = [BucketResult(name=each.name, requests=1, failures=0, actual_rps=1.0) for each in buckets]
    status = LoadTestStatus(
        fingerprint="f", run_id="1", state="Complete", users=1, requested_rps=1.0, buckets=results
    )
    jsonschema.validate(status.to_wire(), STATUS)
    assert buckets[-1].high <= MAX_CHARACTERS, "the service refuses longer texts"


@given(
    rate=RATES,
    wanted=st.one_of(st.none(), RATES),
    p95=st.floats(1e-9, 10.0),
    seconds=st.integers(1, 5),
    step=SIZES,
    longest=SIZES,
)
def test_perfect_service_reaches_the_longest_bucket_of_every_admitted_fixed_load_test(
    rate: float, wanted: float | None, p95: float, seconds: int, step: int, longest: int
) -> None:
    objective = {"p95Seconds": p95} | ({} if wanted is None else {"rps": wanted})
    fields = {"requestedRps": rate, "slo": objective, "secondsPerBucket": seconds}
    spec = admitted({**fields, "bucketStep": step, "maxLength": longest})
    buckets = length_buckets(spec.bucket_step, spec.max_length)[-2:]
    runner = WindowRunner(SimulatedService(lambda name: 0.0), spec, ceiling=None)
    results = [(bucket, runner.measure(bucket.name, spec.requested_rps).result) for bucket in buckets]
    assert max_length_at_requested_rps(results, spec) == spec.max_length


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"maxLength": MAX_CHARACTERS + 1, "bucketStep": MAX_CHARACTERS}, ["loadTest.maxLength", "20000"]),
        ({"maxLength": 201, "bucketStep": 1}, ["maxLength", "200 buckets", "raise loadTest.bucketStep"]),
        ({"maxLength": 20_000, "bucketStep": 99}, ["maxLength", "200 buckets", "raise loadTest.bucketStep"]),
        (
            {"slo": {"rps": 10.5}},
            ["slo.rps", "raise loadTest.requestedRps to slo.rps or set loadTest.mode to search"],
        ),
        ({"requestedRps": 1, "slo": {"rps": 2}}, ["slo.rps", "loadTest.mode to search"]),
        ({"profile": "original", "users": 17}, ["profile original", "remove loadTest.users", "to openLoop"]),
        ({"profile": "original", "arrivals": "poisson"}, ["16 users", "set loadTest.profile to openLoop"]),
        ({"profile": "original", "maxOpenRequests": 64}, ["maxOpenRequests", "set loadTest.profile to openLoop"]),
        ({"trace": {"name": "a", "key": "b"}, "arrivals": "uniform"}, ["remove loadTest.trace"]),
        ({"route": "perspective", "textsPerRequest": 2}, ["one text", "loadTest.route to classify or openai"]),
        ({"bucketUnit": "tokens", "maxLength": 4097}, ["4096 tokens", "lower loadTest.maxLength"]),
        ({"maxOpenRequests": 3, "workers": 4}, ["maxOpenRequests must not be below workers"]),
    ],
)
def test_stored_load_test_that_makes_no_sense_is_told_the_field_and_the_remedy(
    fields: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        a_model().with_spec("loadTest", fields).build()
    assert [word for word in ["spec.loadTest", *words] if word not in str(refusal.value)] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"maxLength": 200, "bucketStep": 1},
        {"maxLength": MAX_CHARACTERS, "bucketStep": 100},
        {"maxLength": 1, "bucketStep": 2**31 - 1},
        {"slo": {"rps": 10}},
        {"slo": {"rps": 11}, "mode": "search"},
        {"profile": "original"},
        {"profile": "original", "users": 16, "requestedRps": 10, "arrivals": "uniform"},
        {"trace": {"name": "a", "key": "b"}, "maxOpenRequests": 4, "workers": 4},
        {"bursts": {"everySeconds": 2, "share": 0.99}},
        {"route": "perspective"},
        {"route": "openai", "textsPerRequest": 64},
        {"bucketUnit": "tokens", "maxLength": 4096},
    ],
)
def test_load_test_at_the_bound_is_admitted(fields: dict[str, Any]) -> None:
    assert a_model().with_spec("loadTest", fields).build().spec.load_test.enabled


@pytest.mark.parametrize("word", [f"{MAX_BUCKETS} buckets", "loadTest.mode to search"])
def test_api_server_refuses_by_itself_in_the_same_words(word: str) -> None:
    rules = structural_schema(LoadTestSpec, defaults=True)[RULES]
    (message,) = [rule["message"] for rule in rules if word in rule["message"]]
    fields = {"maxLength": 201, "bucketStep": 1} if "buckets" in word else {"slo": {"rps": 11}}
    with pytest.raises(ValidationError) as refusal:
        LoadTestSpec.model_validate(fields)
    assert message in str(refusal.value)
