"""The pod settings of a stage in its Job or Deployment, with and without the chart's defaults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client

from support.builders import SETTINGS, ModelBuilder, a_model, metrics
from support.chart import CHART
from toxicity_api.spec import Toleration
from toxicity_api.status import EvaluationStatus
from toxicity_operator import names
from toxicity_operator.chain import build_chain, references
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.loadtest_job import build_loadtest_job
from toxicity_operator.manifests.quantization_job import build_quantization_job
from toxicity_operator.manifests.serving import build_deployment
from toxicity_operator.manifests.training_job import build_training_job
from toxicity_operator.model import Model
from toxicity_operator.pod_defaults import PodDefaults, read_pod_defaults, with_pod_defaults

AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
SPREAD = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
POD: dict[str, Any] = {
    "labels": {"team": "one"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "env": [
        {"name": "TZ", "value": "UTC"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "affinity": AFFINITY,
    "topologySpreadConstraints": [SPREAD],
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "schedulerName": "other",
    "volumes": [
        {"name": "cache", "secret": {"secretName": "third"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}},
        {"name": "secrets", "csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"class": "a"}}},
    ],
    "volumeMounts": [
        {"name": "cache", "mountPath": "/mnt/cache", "readOnly": True},
        {"name": "cache", "mountPath": "/mnt/other"},
    ],
    "gpuResourceName": "amd.com/gpu",
    "queueName": "models",
}


def train(model: Model) -> Any:
    return build_training_job(model, build_chain(model, SETTINGS).train, "train-image:1")


def quantize(model: Model) -> Any:
    chain = build_chain(model, SETTINGS)
    assert chain.quantize
    return build_quantization_job(model, chain.quantize, chain.train.fingerprint, "quantize-image:1")


def evaluate(model: Model) -> Any:
    return build_evaluation_job(model, build_chain(model, SETTINGS), "serve-image:1", "train-image:1")


def serve(model: Model) -> Any:
    evaluation = EvaluationStatus(fingerprint="e", outcome="Succeeded", **metrics().model_dump())
    return build_deployment(model, build_chain(model, SETTINGS), evaluation, "serve-image:1")


def load_test(model: Model) -> Any:
    chain = build_chain(model, SETTINGS)
    assert chain.loadtest
    return build_loadtest_job(model, chain.loadtest, chain.train.fingerprint, "loadtest-image:1")


BUILDERS: dict[str, tuple[str, Callable[[Model], Any]]] = {
    names.TRAIN: ("training", train),
    names.QUANTIZE: ("quantization", quantize),
    names.EVALUATE: ("serving", evaluate),
    names.SERVE: ("serving", serve),
    names.LOADTEST: ("loadTest", load_test),
}


def with_pod(component: str, **pod: Any) -> ModelBuilder:
    section, _ = BUILDERS[component]
    model = a_model().with_spec(f"{section}.pod", pod)
    return model if component == names.LOADTEST else model.with_spec(f"{section}.gpus", 2)


@pytest.mark.parametrize("component", BUILDERS)
def test_every_setting_reaches_the_pods_of_its_stage(component: str) -> None:
    body = BUILDERS[component][1](with_pod(component, **POD).build())
    template = body["spec"]["template"]
    metadata, pod, (main,) = template["metadata"], template["spec"], template["spec"]["containers"]
    assert metadata["labels"]["team"] == "one" and metadata["annotations"]["sidecar.istio.io/inject"] == "false"
    assert metadata["labels"][names.MODEL_LABEL] == "ru-toxicity"
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "models"
    assert [item for item in main["env"] if item["name"] in ("TZ", "KEY")] == POD["env"]
    assert main["envFrom"] == [{"secretRef": {"name": "more"}}]
    assert pod["volumes"][-3:] == POD["volumes"]
    assert [mount for mount in main["volumeMounts"] if mount["name"] == "cache"] == POD["volumeMounts"]
    assert pod["affinity"]["nodeAffinity"] == AFFINITY["nodeAffinity"]
    assert [pod[key] for key in ("priorityClassName", "runtimeClassName", "schedulerName")] == [
        "high", "nvidia", "other",
    ]  # fmt: skip
    selected = {"matchLabels": names.selector_labels("ru-toxicity", component)}
    assert pod["topologySpreadConstraints"] == [SPREAD | {"labelSelector": selected}]
    gpus = {} if component == names.LOADTEST else {"amd.com/gpu": 2}
    assert {key: value for key, value in main["resources"].get("limits", {}).items() if "/gpu" in key} == gpus
    assert metadata["annotations"][names.GPU_RESOURCE_NAME] == "amd.com/gpu"
    (config,) = [item["value"] for item in main["env"] if item["name"] == "STAGE_CONFIG"]
    assert "secretKeyRef" not in config, "a copy of the settings is of no use to the container"


@pytest.mark.parametrize("component", BUILDERS)
def test_pods_stay_restricted(component: str) -> None:
    before = BUILDERS[component][1](a_model().build())["spec"]["template"]["spec"]
    after = BUILDERS[component][1](with_pod(component, **POD).build())["spec"]["template"]["spec"]
    assert after["securityContext"] == before["securityContext"]
    assert after["automountServiceAccountToken"] == before["automountServiceAccountToken"]
    assert after.get("serviceAccountName") == before.get("serviceAccountName")


@pytest.mark.parametrize("component", [name for name in BUILDERS if name != names.LOADTEST])
def test_service_account_is_used_without_its_token(component: str) -> None:
    model = with_pod(component, serviceAccountName="workload").build()
    pod = BUILDERS[component][1](model)["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("workload", False)


def test_download_has_the_variables_and_the_volumes_and_a_copied_image_has_not() -> None:
    builder = with_pod(names.TRAIN, **POD).with_spec("dataset", {"huggingFace": {"repo": "owner/comments"}})
    spec = train(builder.build())["spec"]["template"]["spec"]
    found = {item["name"]: item for item in spec["initContainers"]}
    assert POD["env"][0] in found["dataset"]["env"] and POD["volumeMounts"][0] in found["dataset"]["volumeMounts"]
    for name in ("tools", "base-model"):
        assert "env" not in found[name] and POD["volumeMounts"][0] not in found[name]["volumeMounts"]


@pytest.mark.parametrize("component", BUILDERS)
def test_no_setting_changes_a_result(component: str) -> None:
    before, after = (build_chain(m.build(), SETTINGS) for m in (a_model(), with_pod(component, **POD)))
    changed = with_pod(component).build()  # gpus of training and quantization are part of their results
    base = build_chain(changed, SETTINGS)
    assert [s and s.fingerprint for s in (base.train, base.quantize, base.evaluate, base.loadtest)] == [
        s and s.fingerprint for s in (after.train, after.quantize, after.evaluate, after.loadtest)
    ]
    assert (base.serve.fingerprint == after.serve.fingerprint) == (BUILDERS[component][0] != "serving")
    assert before.train.made_with.placement == base.train.made_with.placement or component == names.TRAIN


def test_failed_stage_is_retried_with_other_settings() -> None:
    before, after = (
        build_chain(m.build(), SETTINGS) for m in (a_model(), a_model().with_spec("training.pod", POD))
    )
    assert before.train.fingerprint == after.train.fingerprint
    assert before.train.job_name != after.train.job_name


def test_secrets_of_the_settings_are_followed() -> None:
    spec = with_pod(names.TRAIN, **POD).build().spec
    assert references(spec, names.TRAIN) == ["Secret/s", "Secret/more", "Secret/third"]
    assert references(spec, names.QUANTIZE) == []
    assert references(spec, names.LOADTEST) == [], "a full volume does not fail it"


def defaults(**fields: Any) -> PodDefaults:
    return read_pod_defaults(json.dumps(fields))


def test_resource_has_precedence_over_the_defaults_of_the_chart() -> None:
    chart = defaults(
        labels={"team": "all", "cost": "7"},
        env=[{"name": "TZ", "value": "CET"}, {"name": "LANG", "value": "C"}],
        priorityClassName="low",
        schedulerName="common",
        nodeSelector={"pool": "models", "disk": "hdd"},
        tolerations=[{"key": "models", "operator": "Exists"}],
    )
    own = {"labels": {"team": "one"}, "env": [{"name": "TZ", "value": "UTC"}], "priorityClassName": "high"}
    model = a_model().with_spec("training.pod", own).with_spec("training.nodeSelector", {"disk": "ssd"}).build()
    filled = with_pod_defaults(model.spec, chart)
    training, settings = filled.training, filled.training.settings
    assert settings.labels == {"team": "one", "cost": "7"}
    assert [(item.name, item.value) for item in settings.env] == [("TZ", "UTC"), ("LANG", "C")]
    assert (settings.priority_class_name, settings.scheduler_name) == ("high", "common")
    assert training.node_selector == {"pool": "models", "disk": "ssd"}
    assert [toleration.key for toleration in training.tolerations] == ["models"]
    assert filled.serving.settings.priority_class_name == "low"


def test_toleration_has_every_field_of_kubernetes_in_the_resource_and_in_the_chart() -> None:
    fields = set(client.V1Toleration.attribute_map.values())
    assert {field.alias for field in Toleration.model_fields.values()} == fields
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert schema["definitions"]["tolerations"]["items"]["properties"].keys() == fields


def test_toleration_of_a_lost_node_is_that_of_the_pod() -> None:
    lost = {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 30,
    }
    for section, build in (("training", train), ("serving", serve)):
        model = a_model().with_spec(f"{section}.tolerations", [lost]).build()
        assert build(model)["spec"]["template"]["spec"]["tolerations"] == [lost]


def test_load_test_keeps_its_account_beside_the_default_of_the_chart() -> None:
    model = a_model().build()
    filled = replace(model, spec=with_pod_defaults(model.spec, defaults(serviceAccountName="models")))
    assert serve(filled)["spec"]["template"]["spec"]["serviceAccountName"] == "models"
    assert load_test(filled)["spec"]["template"]["spec"]["serviceAccountName"] == "ru-toxicity-loadtest"


def test_proxy_ca_bundle_and_hub_mirror_reach_downloads_and_stages() -> None:
    chart = defaults(
        proxy={"https": "http://proxy:3128", "exceptions": [".corp"]},
        caBundle={"configMapName": "ca", "key": "all.pem"},
        hubEndpoint="https://hub.corp",
    )
    model = a_model().with_spec("dataset", {"huggingFace": {"repo": "owner/comments"}}).build()
    pod = train(replace(model, spec=with_pod_defaults(model.spec, chart)))["spec"]["template"]["spec"]
    download = next(item for item in pod["initContainers"] if item["name"] == "dataset")
    for container in (download, pod["containers"][0]):
        found = {item["name"]: item["value"] for item in container["env"]}
        assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://proxy:3128"
        assert "HTTP_PROXY" not in found
        assert {".svc", "$(KUBERNETES_SERVICE_HOST)", ".corp"} <= set(found["NO_PROXY"].split(","))
        assert found["SSL_CERT_FILE"] == found["REQUESTS_CA_BUNDLE"] == "/etc/toxicity-ca/all.pem"
        assert found["HF_ENDPOINT"] == "https://hub.corp"
        assert {"name": "ca-bundle", "mountPath": "/etc/toxicity-ca", "readOnly": True} in container[
            "volumeMounts"
        ]
    assert {"name": "ca-bundle", "configMap": {"name": "ca"}} in pod["volumes"]


def test_no_defaults_change_nothing() -> None:
    spec = a_model().build().spec
    empty = defaults(proxy={"http": "", "exceptions": []}, caBundle={"configMapName": "", "key": "ca.crt"})
    assert with_pod_defaults(spec, empty) is spec


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"envs": []}, "pods.envs"),
        ({"proxy": {"ftp": "x"}}, "pods.proxy.ftp"),
        ({"env": [{"name": "HOME", "value": "/"}]}, "pods.env"),
        ({"volumeMounts": [{"name": "a", "mountPath": "/mnt/a"}]}, "pod.volumeMounts must name an entry"),
    ],
)
def test_invalid_default_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match="correct the values of the chart") as refusal:
        defaults(**fields)
    assert named in str(refusal.value)
