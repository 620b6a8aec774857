"""The configuration of the serving pod follows the spec: queue, long texts, token, report folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.builders import SETTINGS, ModelBuilder, a_model, metrics
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, EvaluationConfig, ServingConfig
from toxicity_api.status import EvaluationStatus
from toxicity_operator.chain import build_chain
from toxicity_operator.errors import InvalidSpec
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.loadtest_job import build_loadtest_job
from toxicity_operator.manifests.serving import build_deployment


def environment(pod_owner: Any) -> dict[str, Any]:
    """Environment variables of the only container by name: the value or its source."""
    [container] = pod_owner["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def serving_environment(builder: ModelBuilder) -> dict[str, Any]:
    model = builder.build()
    evaluation = EvaluationStatus(fingerprint="e", outcome="Succeeded", **metrics().model_dump())
    return environment(build_deployment(model, build_chain(model, SETTINGS), evaluation, "serve-image:1"))


def config(builder: ModelBuilder) -> ServingConfig:
    return ServingConfig.model_validate_json(serving_environment(builder)[STAGE_CONFIG_VARIABLE])


def test_defaults_are_windows_and_a_queue_of_256() -> None:
    found = config(a_model())
    assert (found.long_texts, found.queue_limit) == ("window", 256)


def test_queue_and_long_texts_reach_the_pod() -> None:
    found = config(a_model().with_spec("serving.queueLimit", 7).with_spec("serving.longTexts", "truncate"))
    assert (found.long_texts, found.queue_limit) == ("truncate", 7)


def test_http_settings_reach_the_pod() -> None:
    settings = {
        "corsOrigins": ["https://forum.example"],
        "trustedProxies": ["10.0.0.0/8", "::1"],
        "accessLog": False,
    }
    builder = a_model().with_spec("serving.http", settings | {"otlpEndpoint": "http://collector:4318"})
    found = config(builder).http
    assert (found.cors_origins, found.trusted_proxies) == (["https://forum.example"], ["10.0.0.0/8", "::1"])
    assert found.access_log is False and config(a_model()).http.access_log
    assert serving_environment(builder)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in serving_environment(a_model())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queueLimit", -1),
        ("longTexts", "cut"),
        ("apiTokenSecretName", ""),
        ("http.corsOrigins", ["forum.example"]),
        ("http.corsOrigins", ["https://forum.example/path"]),
        ("http.trustedProxies", ["proxy.example"]),
        ("http.otlpEndpoint", "collector:4318"),
    ],
)
def test_wrong_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidSpec, match=field):
        a_model().with_spec(f"serving.{field}", value).build()


def test_pods_take_over_what_the_evaluation_compiled_by_the_hash_in_the_status() -> None:
    model = a_model().build()
    chain = build_chain(model, SETTINGS)
    record = EvaluationStatus(
        fingerprint="e", outcome="Succeeded", compiled_sha256="abc", **metrics().model_dump()
    )
    found = environment(build_deployment(model, chain, record, "serve-image:1"))[STAGE_CONFIG_VARIABLE]
    compiled = ServingConfig.model_validate_json(found).compiled
    assert compiled is not None and compiled.sha256 == "abc"
    assert compiled.path == Path(f"/artifacts/evaluate-{chain.evaluate.fingerprint}/compiled.zip")


def test_without_a_hash_in_the_status_pods_compile_by_themselves() -> None:
    assert config(a_model()).compiled is None


def test_eager_is_asked_of_evaluation_and_serving_alike() -> None:
    builder = a_model().with_spec("serving.enforceEager", True)
    model = builder.build()
    job = build_evaluation_job(model, build_chain(model, SETTINGS), "serve-image:1", "train-image:1")
    evaluation = EvaluationConfig.model_validate_json(environment(job)[STAGE_CONFIG_VARIABLE])
    assert evaluation.original is not None
    assert [config(builder).enforce_eager, evaluation.served.enforce_eager, evaluation.original.enforce_eager] == [
        True
    ] * 3


def test_reports_are_those_of_the_stages_in_their_order() -> None:
    model = a_model().build()
    chain = build_chain(model, SETTINGS)
    found = config(a_model())
    assert chain.quantize
    expected = [f"train-{chain.train.fingerprint}", f"quantize-{chain.quantize.fingerprint}"]
    assert [folder.name for folder in found.report_dirs] == [*expected, f"evaluate-{chain.evaluate.fingerprint}"]
    assert found.model_dir.parent in found.report_dirs
    job = build_evaluation_job(model, chain, "serve-image:1", "train-image:1")
    evaluation = EvaluationConfig.model_validate_json(environment(job)[STAGE_CONFIG_VARIABLE])
    assert found.report_dirs[-1] == evaluation.output_dir


def test_token_goes_from_the_secret_to_who_serves_and_to_who_asks() -> None:
    builder = a_model().with_spec("serving.apiTokenSecretName", "api-token")
    model = builder.build()
    chain = build_chain(model, SETTINGS)
    assert chain.loadtest
    loadtest = build_loadtest_job(model, chain.loadtest, chain.train.fingerprint, "loadtest-image:1")
    wanted = {"secretKeyRef": {"name": "api-token", "key": "token"}}
    assert serving_environment(builder)["API_TOKEN"] == environment(loadtest)["API_TOKEN"] == wanted
    assert "API_TOKEN" not in serving_environment(a_model())
