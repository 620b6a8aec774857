"""Every manifest equals its golden file. UPDATE_GOLDEN=1 writes the golden files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import SETTINGS, ModelBuilder, a_model, metrics
from toxicity_api.stage_config import (
    COMPILED_FILE,
    CacheFolder,
    EvaluationConfig,
    FetchConfig,
    LoadTestConfig,
    QuantizationConfig,
    ServingConfig,
    TrainingConfig,
    parse_stage_config,
)
from toxicity_api.status import EvaluationStatus
from toxicity_operator.chain import build_chain
from toxicity_operator.manifests.autoscaler import Bounds, build_autoscaler
from toxicity_operator.manifests.common import runs_with, seal, thread_count
from toxicity_operator.manifests.evaluation_job import build_evaluation_job
from toxicity_operator.manifests.expose import build_route
from toxicity_operator.manifests.loadtest_job import build_loadtest_job, build_loadtest_service
from toxicity_operator.manifests.quantization_job import build_quantization_job
from toxicity_operator.manifests.rbac import build_loadtest_access
from toxicity_operator.manifests.serving import build_deployment, build_disruption_budget, build_service
from toxicity_operator.manifests.storage import build_claim
from toxicity_operator.manifests.training_job import build_training_job
from toxicity_training.download import build_parser

GOLDEN = Path(__file__).parents[2] / "golden"
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def a_gpu_model() -> ModelBuilder:
    """An autoscaled model on GPUs, from the Hugging Face Hub, with data in a volume."""
    model = a_model().with_spec(
        "dataset", {"persistentVolumeClaim": {"claimName": "data", "path": "a/comments.csv.gz"}}
    )
    model = model.with_spec("baseModel", {"huggingFace": {"repo": "owner/name", "secretName": "hf-token"}})
    for stage in ("training", "quantization", "serving"):
        model = model.with_spec(f"{stage}.gpus", 1).with_spec(f"{stage}.tolerations", [TOLERATION])
    model = model.with_spec("training.nodeSelector", {"gpu": "true"}).with_spec("storage.storageClassName", "fast")
    return model.with_spec("serving.autoscaling", {"minReplicas": 2, "maxReplicas": 4}).with_spec(
        "serving.strategy", "Recreate"
    )


TEST_SETS = [
    {"name": "forum", "configMap": {"name": "forum", "key": "rows.csv"}, "minF1": 0.6},
    {"name": "news", "huggingFace": {"repo": "owner/news", "file": "data/test.csv", "secretName": "hub"}},
    {
        "name": "old",
        "image": {"reference": "rows:1", "path": "/rows/old.csv"},
        "textColumn": "text",
        "labelColumn": "bad",
    },
    {"name": "shared", "persistentVolumeClaim": {"claimName": "rows", "path": "shared.csv"}},
]


def train(builder: ModelBuilder) -> Any:
    model = builder.build()
    return build_training_job(model, build_chain(model, SETTINGS).train, "train-image:1")


def quantize(builder: ModelBuilder) -> Any:
    model = builder.build()
    chain = build_chain(model, SETTINGS)
    assert chain.quantize
    return build_quantization_job(model, chain.quantize, chain.train.fingerprint, "quantize-image:1")


def evaluate(builder: ModelBuilder) -> Any:
    model = builder.build()
    return build_evaluation_job(model, build_chain(model, SETTINGS), "serve-image:1", "train-image:1")


def loadtest(builder: ModelBuilder) -> Any:
    model = builder.build()
    chain = build_chain(model, SETTINGS)
    assert chain.loadtest
    image, served = "loadtest-image:1", chain.serving_fingerprint
    return build_loadtest_job(model, chain.loadtest, chain.train.fingerprint, image, served)


def a_distributed_model() -> ModelBuilder:
    """A load test with three workers against a service with an API token."""
    return a_model().with_spec("loadTest.workers", 3).with_spec("serving.apiTokenSecretName", "token")


def a_store_model() -> ModelBuilder:
    """A model with its artifacts in an S3-compatible store with a private authority."""
    store = {
        "url": "s3://models/team",
        "endpoint": "https://s3.example.com:9000",
        "region": "eu-north-1",
        "secretName": "store-key",
        "caSecretName": "store-ca",
    }
    return a_model().with_spec("storage.objectStore", store)


def a_cloud_model() -> ModelBuilder:
    """A model with its artifacts in a cloud's store, reached by workload identity, and scratch volumes."""
    model = a_model().with_spec("storage.objectStore", {"url": "gs://models/team"})
    return model.with_spec("storage.scratch", {"storageClassName": "local-ssd", "size": "80Gi"})


def a_cached_model() -> ModelBuilder:
    """A model in a cloud's store whose serving pods have a cache on each node."""
    return a_cloud_model().with_spec("storage.nodeCache", {"claimName": "node-models", "size": "50G"})


def exposed(**way: Any) -> Any:
    """The route of a model that is exposed in this way."""
    return build_route(a_model().with_spec("serving.expose", {"host": "toxicity.example.org", **way}).build())


def scaled_by_requests(**fields: Any) -> ModelBuilder:
    """A model that is autoscaled by requests in flight."""
    scaling = {"metric": "inFlight", "prometheusAddress": "http://prometheus.monitoring.svc:9090"}
    return a_model().with_spec("serving.autoscaling", scaling | {"minReplicas": 2, "maxReplicas": 4} | fields)


def deployment(builder: ModelBuilder) -> Any:
    model = builder.build()
    figures = metrics().model_dump() | {"f1": 0.88, "threshold": 0.375}
    evaluation = EvaluationStatus(fingerprint="e", outcome="Succeeded", **figures)
    return build_deployment(model, build_chain(model, SETTINGS), evaluation, "serve-image:1")


CASES: dict[str, Callable[[], Any]] = {
    "claim": lambda: build_claim(a_model().build()),
    "claim-gpu": lambda: build_claim(a_gpu_model().build()),
    "training-job": lambda: train(a_model()),
    "training-job-gpu": lambda: train(a_gpu_model()),
    "training-job-configmap": lambda: train(
        a_model().with_spec("dataset", {"configMap": {"name": "comments", "key": "comments.csv"}})
    ),
    "training-job-hub": lambda: train(
        a_model()
        .with_spec("dataset", {"huggingFace": {"repo": "owner/comments", "revision": "v2"}})
        .with_spec("baseModel", {"huggingFace": {"repo": "owner/name"}})
    ),
    "training-job-kaggle": lambda: train(
        a_model().with_spec(
            "dataset", {"kaggle": {"dataset": "owner/name", "file": "data/c.csv", "secretName": "kaggle"}}
        )
    ),
    "training-job-mlflow": lambda: train(
        a_model()
        .with_spec("training.tracking.mlflow", {"trackingUri": "http://mlflow:5000"})
        .with_spec("training.pod", {"envFrom": [{"secretRef": {"name": "mlflow"}}]})
    ),
    "quantization-job": lambda: quantize(a_model()),
    "quantization-job-gpu": lambda: quantize(a_gpu_model()),
    "evaluation-job": lambda: evaluate(a_model()),
    "evaluation-job-gpu": lambda: evaluate(a_gpu_model()),
    "evaluation-job-unquantized": lambda: evaluate(a_model().with_spec("quantization.method", "none")),
    "evaluation-job-test-sets": lambda: evaluate(a_model().with_spec("evaluation.testSets", TEST_SETS)),
    "deployment": lambda: deployment(a_model()),
    "training-job-object-store": lambda: train(a_store_model()),
    "quantization-job-object-store": lambda: quantize(a_cloud_model()),
    "evaluation-job-object-store": lambda: evaluate(a_store_model()),
    "deployment-object-store": lambda: deployment(a_store_model()),
    "deployment-node-cache": lambda: deployment(a_cached_model()),
    "loadtest-job-object-store": lambda: loadtest(a_store_model()),
    "deployment-gpu": lambda: deployment(a_gpu_model()),
    "service": lambda: build_service(a_model().build()),
    "disruption-budget": lambda: build_disruption_budget(a_model().build()),
    "deployment-many-nodes": lambda: deployment(a_model().with_spec("storage.accessModes", ["ReadWriteMany"])),
    "autoscaler": lambda: build_autoscaler(a_gpu_model().build(), Bounds(2, 4)),
    "autoscaler-patient": lambda: build_autoscaler(
        a_gpu_model().with_spec("serving.autoscaling.scaleDownStabilizationSeconds", 60).build(), Bounds(2, 4)
    ),
    "scaled-object": lambda: build_autoscaler(scaled_by_requests().build(), Bounds(2, 4)),
    "scaled-object-patient": lambda: build_autoscaler(
        scaled_by_requests(target=4, scaleDownStabilizationSeconds=0).build(), Bounds(3, 3)
    ),
    "ingress": lambda: exposed(
        ingress={
            "className": "nginx",
            "tlsSecretName": "toxicity-tls",
            "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
        }
    ),
    "ingress-plain": lambda: exposed(ingress={}),
    "http-route": lambda: exposed(gateway={"name": "public", "namespace": "infra", "sectionName": "https"}),
    "http-route-plain": lambda: exposed(gateway={"name": "public"}),
    "loadtest-job": lambda: loadtest(a_model()),
    "loadtest-job-distributed": lambda: loadtest(a_distributed_model()),
    "loadtest-job-trace": lambda: loadtest(
        a_model()
        .with_spec("loadTest.trace", {"name": "peak", "key": "times"})
        .with_spec("loadTest.bucketUnit", "tokens")
    ),
    "loadtest-service": lambda: build_loadtest_service(a_distributed_model().build()),
    "loadtest-access": lambda: build_loadtest_access(a_model().build()),
}


class ReadableDumper(yaml.SafeDumper):
    """YAML dumper without aliases and with block style for multi-line text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def readable_yaml(data: Any) -> str:
    ReadableDumper.add_representer(str, represent_text)
    return yaml.dump(data, Dumper=ReadableDumper, sort_keys=False, allow_unicode=True, width=110)


@pytest.mark.parametrize("case", CASES)
def test_manifest_is_as_reviewed(case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    built = CASES[case]()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(readable_yaml(built), encoding="utf-8")
    assert built == yaml.safe_load(path.read_text(encoding="utf-8"))


PODS = {name: build for name, build in CASES.items() if "job" in name or name.startswith("deployment")}


@pytest.mark.parametrize("case", PODS)
def test_every_container_passes_the_restricted_level(case: str) -> None:
    spec = PODS[case]()["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"] + spec.get("initContainers", []):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        asked = container["resources"].get("requests", {}) | container["resources"].get("limits", {})
        assert {"cpu", "memory"} <= set(asked), "a limit alone is a request too"


@pytest.mark.parametrize("case", PODS)
def test_only_the_load_test_has_a_token(case: str) -> None:
    assert PODS[case]()["spec"]["template"]["spec"]["automountServiceAccountToken"] is case.startswith("loadtest")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("training-job", TrainingConfig),
        ("quantization-job", QuantizationConfig),
        ("evaluation-job", EvaluationConfig),
        ("deployment", ServingConfig),
        ("loadtest-job", LoadTestConfig),
    ],
)
def test_stage_can_read_the_configuration_it_is_given(case: str, kind: Any) -> None:
    (container,) = PODS[case]()["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert parse_stage_config(kind, environment).model == "ru-toxicity"


def test_only_the_download_mounts_the_cache_of_the_node() -> None:
    jobs = [build(a_cached_model()) for build in (train, quantize, evaluate, loadtest)]
    pods = [each["spec"]["template"]["spec"] for each in (*jobs, deployment(a_cached_model()))]
    mounting = [
        container["name"]
        for pod in pods
        for container in (*pod.get("initContainers", []), *pod["containers"])
        if any(mount["name"] == "node-cache" for mount in container["volumeMounts"])
    ]
    assert mounting == ["download"]
    assert [
        volume["name"] for pod in pods[:-1] for volume in pod["volumes"] if volume["name"] == "node-cache"
    ] == []


def test_download_can_read_where_the_cache_is_and_how_large_it_may_be() -> None:
    download, watch = deployment(a_cached_model())["spec"]["template"]["spec"]["initContainers"]
    config, watched = (
        parse_stage_config(FetchConfig, {item["name"]: item["value"] for item in container["env"]})
        for container in (download, watch)
    )
    assert config.cache == CacheFolder(path=Path("/node-cache"), size_bytes=50_000_000_000)
    assert watched.cache is None


@pytest.mark.parametrize(
    ("case", "container", "name"),
    [
        ("training-job-hub", "dataset", "dataset.csv"),
        ("training-job-kaggle", "dataset", "c.csv"),
        ("training-job-hub", "base-model", None),
        ("training-job-gpu", "base-model", None),
    ],
)
def test_download_understands_its_arguments_and_writes_where_the_training_reads(
    case: str, container: str, name: str | None
) -> None:
    pod = PODS[case]()["spec"]["template"]["spec"]
    (download,) = (item for item in pod["initContainers"] if item["name"] == container)
    options = build_parser().parse_args(download["args"])
    environment = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    training = parse_stage_config(TrainingConfig, environment)
    wanted = training.base_model_path if name is None else training.dataset_path
    assert options.target / (name or "") == wanted and vars(options).get("save_as") == name


def test_workers_find_the_master_by_the_service() -> None:
    job, service = CASES["loadtest-job-distributed"](), CASES["loadtest-service"]()
    pod = job["spec"]["template"]
    environment = {item["name"]: item.get("value", "") for item in pod["spec"]["containers"][0]["env"]}
    config = parse_stage_config(LoadTestConfig, environment)
    name, service_name = job["metadata"]["name"], service["metadata"]["name"]
    assert config.master_host == f"{name}-0.{service_name}.default.svc"
    assert pod["spec"]["subdomain"] == service_name
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["port"] == config.master_port
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == config.load_test.workers + 1
    assert build_loadtest_service(a_model().build()) is None


def test_bad_input_of_any_container_of_a_stage_is_never_retried() -> None:
    for case in PODS:
        if "job" in case:
            rules = PODS[case]()["spec"]["podFailurePolicy"]["rules"]
            assert {"operator": "In", "values": [42]} in [rule.get("onExitCodes") for rule in rules], case


def test_evaluated_engine_is_the_one_that_serves() -> None:
    (container,) = PODS["deployment"]()["spec"]["template"]["spec"]["containers"]
    serving = parse_stage_config(ServingConfig, {item["name"]: item["value"] for item in container["env"]})
    (container,) = PODS["evaluation-job"]()["spec"]["template"]["spec"]["containers"]
    stage = parse_stage_config(EvaluationConfig, {item["name"]: item["value"] for item in container["env"]})
    assert dict(stage.served).items() <= dict(serving).items()
    assert stage.original is not None
    assert stage.original.model_dir.parent.name == stage.splits_dir.parent.name


def test_evaluation_without_quantization_has_nothing_to_compare_with() -> None:
    (container,) = PODS["evaluation-job-unquantized"]()["spec"]["template"]["spec"]["containers"]
    stage = parse_stage_config(EvaluationConfig, {item["name"]: item["value"] for item in container["env"]})
    assert stage.original is None
    assert stage.served.model_dir.parent.name == stage.splits_dir.parent.name


def test_served_folder_is_the_one_the_quantization_writes() -> None:
    (container,) = PODS["deployment"]()["spec"]["template"]["spec"]["containers"]
    serving = parse_stage_config(ServingConfig, {item["name"]: item["value"] for item in container["env"]})
    (container,) = PODS["quantization-job"]()["spec"]["template"]["spec"]["containers"]
    stage = parse_stage_config(QuantizationConfig, {item["name"]: item["value"] for item in container["env"]})
    assert serving.model_dir == stage.output_dir / "model"
    assert (serving.threshold, serving.metrics and serving.metrics.f1) == (0.375, 0.88)


def test_threshold_of_the_spec_wins() -> None:
    (container,) = deployment(a_model().with_spec("serving.threshold", 0.7))["spec"]["template"]["spec"][
        "containers"
    ]
    serving = parse_stage_config(ServingConfig, {item["name"]: item["value"] for item in container["env"]})
    assert serving.threshold == 0.7


@pytest.mark.parametrize(
    ("limit", "threads"), [("1500m", 2), ("2", 2), (1, 1), ("100m", 1), ("0.5", 1), (None, None), ("1e3", None)]
)
def test_threads_follow_the_cpu_limit(limit: str | int | None, threads: int | None) -> None:
    assert (
        thread_count(a_model().with_spec("training.resources.limits.cpu", limit).build().spec.training) == threads
    )


@pytest.mark.parametrize(("gpus", "threads"), [(0, "6"), (1, "6"), (2, "3"), (4, "1"), (8, "1")])
@pytest.mark.parametrize("section", ["training", "serving"])
def test_every_process_of_a_stage_has_its_share_of_the_cpu_limit(section: str, gpus: int, threads: str) -> None:
    """Libraries start a thread per core of the node otherwise, and a stage has one process per GPU."""
    model = a_model().with_spec(f"{section}.resources.limits.cpu", 6).with_spec(f"{section}.gpus", gpus)
    for build in [train] if section == "training" else [evaluate, deployment]:
        (container,) = build(model)["spec"]["template"]["spec"]["containers"]
        found = {item["name"]: item.get("value") for item in container["env"]}
        assert found["OMP_NUM_THREADS"] == threads


def test_hash_changes_with_the_content_and_only_with_it() -> None:
    one, two = seal(train(a_model())), seal(train(a_model()))
    other = seal(train(a_model().with_spec("training.backoffLimit", 7)))
    assert one == two and one["metadata"]["annotations"] != other["metadata"]["annotations"]
    assert seal(one | {"spec": one["spec"]})["spec"] == one["spec"]


@pytest.mark.parametrize("build", [train, quantize, evaluate, loadtest, deployment])
def test_every_pod_pulls_with_the_given_secrets(build: Callable[[ModelBuilder], Any]) -> None:
    private = a_model().with_spec("images.pullSecrets", ["registry", "mirror"])
    pod = build(private)["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    assert "imagePullSecrets" not in build(a_model())["spec"]["template"]["spec"]


@pytest.mark.parametrize("gpus", [0, 2])
def test_init_containers_may_use_what_the_training_may_and_no_gpu(gpus: int) -> None:
    """Quotas and LimitRanges apply to init containers, and their copies can be large."""
    amounts = {"requests": {"cpu": "3", "memory": "5Gi"}, "limits": {"cpu": "4", "memory": "9Gi"}}
    image = {"image": {"reference": "base:1", "path": "/model"}}
    model = a_model().with_spec("training.resources", amounts).with_spec("baseModel", image)
    model = model.with_spec("training.gpus", gpus).with_spec(
        "dataset", {"kaggle": {"dataset": "a/b", "file": "c.csv"}}
    )
    pod = train(model)["spec"]["template"]["spec"]
    assert [item["name"] for item in pod["initContainers"]] == ["tools", "dataset", "base-model"]
    assert [item["resources"] for item in pod["initContainers"]] == [amounts] * 3


@pytest.mark.parametrize(
    ("of_the_spec", "of_the_evaluation", "used"),
    [
        (0, 0.375, 0.0),
        (0.0, None, 0.0),
        (None, 0.0, 0.0),
        (None, 0.375, 0.375),
        (None, None, 0.5),
        (1, 0.375, 1.0),
    ],
)
def test_threshold_of_zero_is_a_threshold(
    of_the_spec: float | None, of_the_evaluation: float | None, used: float
) -> None:
    model = a_model().with_spec("serving.threshold", of_the_spec).build()
    evaluation = EvaluationStatus(fingerprint="e", outcome="Succeeded", threshold=of_the_evaluation)
    built = build_deployment(model, build_chain(model, SETTINGS), evaluation, "serve-image:1")
    (container,) = built["spec"]["template"]["spec"]["containers"]
    serving = parse_stage_config(ServingConfig, {item["name"]: item["value"] for item in container["env"]})
    assert serving.threshold == used


@pytest.mark.parametrize(
    ("serving", "first", "wanted"),
    [
        ({}, None, 1),
        ({"replicas": 0}, None, 0),
        ({"replicas": 3}, None, 3),
        ({"replicas": 3}, 0, 0),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, None, None),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, 2, 2),
    ],
)
def test_number_of_replicas_is_the_one_that_was_asked_for(
    serving: dict[str, Any], first: int | None, wanted: int | None
) -> None:
    builder = a_model()
    for name, value in serving.items():
        builder = builder.with_spec(f"serving.{name}", value)
    model = builder.build()
    evaluation = EvaluationStatus(fingerprint="e", outcome="Succeeded")
    built = build_deployment(model, build_chain(model, SETTINGS), evaluation, "serve-image:1", first)
    assert built["spec"].get("replicas") == wanted


STORE_PODS = [case for case in PODS if case.endswith("object-store") and case != "quantization-job-object-store"]


@pytest.mark.parametrize("case", STORE_PODS)
def test_only_containers_that_transfer_artifacts_have_the_credentials(case: str) -> None:
    spec = PODS[case]()["spec"]["template"]["spec"]
    containers = spec["containers"] + spec.get("initContainers", [])
    with_secrets = {
        item["name"]
        for item in containers
        if any(mount["name"].startswith("store-") for mount in item["volumeMounts"])
    }
    expected = {"download", "load-tests"} if case.startswith("deployment") else {case.partition("-")[0]}
    names = {"training": "train", "evaluation": "evaluate", "loadtest": "loadtest"}
    assert with_secrets == {names.get(name, name) for name in expected}
    assert "store-key" not in str([item.get("command", []) + item.get("args", []) for item in containers])
    assert not any("secretKeyRef" in str(item.get("env")) for item in containers)


def test_server_reads_the_folders_that_are_downloaded() -> None:
    spec = deployment(a_store_model())["spec"]["template"]["spec"]
    documents = {
        item["name"]: json.loads(next(entry["value"] for entry in item["env"] if entry["name"] == "STAGE_CONFIG"))
        for item in spec["containers"] + spec["initContainers"]
    }
    served, fetched = (
        documents["serve"],
        {Path(item["path"]): item["parts"] for item in documents["download"]["inputs"]},
    )
    assert "model" in fetched[Path(served["modelDir"]).parent]
    assert {Path(folder) for folder in served["reportDirs"]} == set(fetched)
    assert COMPILED_FILE in next(parts for folder, parts in fetched.items() if folder.name.startswith("evaluate"))


def test_model_in_an_object_store_has_no_claim() -> None:
    assert build_claim(a_store_model().build()) is None
    assert runs_with(train(a_store_model())) == []


@pytest.mark.parametrize("case", ["training-job-object-store", "deployment-object-store"])
def test_pods_of_an_object_store_need_not_share_a_node(case: str) -> None:
    assert "affinity" not in PODS[case]()["spec"]["template"]["spec"]
