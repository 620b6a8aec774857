"""The serving Deployment (vLLM behind FastAPI) and its Service."""

from __future__ import annotations

from toxicity_api.fingerprint import FINGERPRINT_LENGTH
from toxicity_api.quantities import canonical
from toxicity_api.results import Metrics
from toxicity_api.spec import HttpSpec, ServingSpec
from toxicity_api.stage_config import COMPILED_FILE, CompiledCode, ServingConfig
from toxicity_api.status import EvaluationStatus
from toxicity_operator import names
from toxicity_operator.chain import Chain
from toxicity_operator.manifests import object_store
from toxicity_operator.manifests.common import (
    Manifest,
    artifacts_volume,
    container,
    content_hash,
    env,
    manifest,
    placement,
    pod_template,
    resources,
    scratch_volumes,
    stage_folder,
)
from toxicity_operator.manifests.engine import engine_config, engine_env
from toxicity_operator.manifests.object_store import download_containers
from toxicity_operator.manifests.pods import gpu_annotations, queue_labels, with_placement, with_pod_settings
from toxicity_operator.manifests.sources import base_model_name
from toxicity_operator.model import Model

PORT = 8000
SERVICE_PORT = 80
RESIZED = "+"
"""Separator in a serving fingerprint before the hash of resources that come from a later spec."""

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""Annotation with which `kubectl rollout restart` makes another pod template."""

STARTUP_SECONDS = 600
GRACE_SECONDS = 80  # draining takes 10 s, and the longest request 60 s
TOKEN_VARIABLE, TOKEN_KEY = "API_TOKEN", "token"


def build_deployment(
    model: Model, chain: Chain, evaluation: EvaluationStatus, image: str, replicas: int | None = None
) -> Manifest:
    """The Deployment that serves the chain's model. With autoscaling it omits `replicas` unless they are given."""
    annotations = {
        names.SERVING_FINGERPRINT: chain.serving_fingerprint,
        names.MODEL_FINGERPRINT: chain.model_stage.fingerprint,
    }
    template = pod_template(model, names.SERVE, _pod_spec(model, chain, evaluation, image))
    template["metadata"]["annotations"] = annotations
    template = with_placement(with_pod_settings(template, model.spec.serving.settings), model)
    return build_earlier_deployment(model, named(template), {}, replicas)


def named(template: Manifest) -> Manifest:
    """The pod template with its hash in the version annotation."""
    metadata = template["metadata"]
    annotations = {key: value for key, value in metadata["annotations"].items() if key != names.VERSION}
    unnamed = {**template, "metadata": {**metadata, "annotations": annotations}}
    version = content_hash(unnamed)[:FINGERPRINT_LENGTH]
    return {**unnamed, "metadata": {**metadata, "annotations": {**annotations, names.VERSION: version}}}


def with_resources(template: Manifest, serving: ServingSpec) -> Manifest:
    """The pod template of an earlier version with the resources of the spec; unchanged if they are equal.

    The new serving fingerprint matches no spec, so a return to the earlier spec restores its resources.
    """
    wanted = resources(serving)
    main, *others = template["spec"]["containers"]
    if _amounts(wanted) == _amounts(main.get("resources", {})):
        return template
    spec = {**template["spec"], "containers": [{**main, "resources": wanted}, *others]}
    metadata = template["metadata"]
    made_of = metadata["annotations"][names.SERVING_FINGERPRINT].partition(RESIZED)[0]
    fingerprint = f"{made_of}{RESIZED}{content_hash(_amounts(wanted))}"
    kept = {key: value for key, value in metadata["annotations"].items() if key != names.GPU_RESOURCE_NAME}
    annotations = {**kept, names.SERVING_FINGERPRINT: fingerprint, **gpu_annotations(serving.settings)}
    return named({**template, "metadata": {**metadata, "annotations": annotations}, "spec": spec})


def _amounts(resources: Manifest) -> dict[str, dict[str, str]]:
    return {
        kind: {name: canonical(str(amount)) for name, amount in amounts.items()}
        for kind, amounts in resources.items()
        if amounts
    }


def failure_notes(failed: str, message: str, run: str = "") -> dict[str, str]:
    """The annotations of a Deployment that replaces version `failed`, which failed with `message`.

    They record the failed version for later passes, even if the status could not be written. `run`: the run of the
    load test that found it slower; empty if it did not become ready.
    """
    notes = {names.FAILED_FINGERPRINT: failed, names.FAILED_MESSAGE: message}
    return notes | ({names.FAILED_RUN: run} if run else {})


def build_parked_deployment(model: Model, live: Manifest, template: Manifest, job: str) -> Manifest:
    """The `live` Deployment with the pod `template`, scaled to 0 while the stage Job uses its GPUs."""
    return build_earlier_deployment(model, template, kept_notes(live) | {names.HANDED_TO: job}, 0)


def build_earlier_deployment(
    model: Model, template: Manifest, notes: dict[str, str], replicas: int | None = None
) -> Manifest:
    """The Deployment with the pod `template` of an earlier version and the annotations `notes`."""
    labels = {k: v for k, v in template["metadata"]["labels"].items() if k != names.TEMPLATE_HASH_LABEL}
    # an old restartedAt would undo a later kubectl rollout restart
    annotations = {k: v for k, v in template["metadata"]["annotations"].items() if k != RESTARTED_AT}
    metadata = {"labels": labels, "annotations": annotations}
    ours = (names.SERVING_FINGERPRINT, names.MODEL_FINGERPRINT, names.VERSION)
    of_version = {key: annotations[key] for key in ours if key in annotations}
    return _deployment(model, {"metadata": metadata, "spec": template["spec"]}, of_version | notes, replicas)


def kept_notes(live: Manifest) -> dict[str, str]:
    """The annotations of a live Deployment about a failed version."""
    annotations, keys = live["metadata"].get("annotations", {}), (*failure_notes("", ""), names.FAILED_RUN)
    return {key: annotations[key] for key in keys if key in annotations}


def _deployment(
    model: Model, template: Manifest, annotations: dict[str, str], replicas: int | None = None
) -> Manifest:
    serving, name = model.spec.serving, names.serving_name(model.name)
    spec: Manifest = {
        "selector": {"matchLabels": names.selector_labels(model.name, names.SERVE)},
        "strategy": _strategy(serving.strategy),
        "progressDeadlineSeconds": serving.progress_deadline_seconds,
        "template": template,
    }
    if replicas is None and serving.autoscaling is None:
        replicas = 1 if serving.replicas is None else serving.replicas
    if replicas is not None:
        spec["replicas"] = replicas
    deployment = manifest("apps/v1", "Deployment", model, name, names.SERVE, spec=spec)
    deployment["metadata"]["annotations"] = annotations
    deployment["metadata"]["labels"] |= queue_labels(serving.settings)
    return deployment


def build_service(model: Model) -> Manifest:
    """The Service of the serving pods."""
    spec = {
        "selector": names.selector_labels(model.name, names.SERVE),
        "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
    }
    return manifest("v1", "Service", model, names.serving_name(model.name), names.SERVE, spec=spec)


def build_disruption_budget(model: Model) -> Manifest:
    """The PodDisruptionBudget of the serving pods: one may be evicted at a time, the next when all are ready again.

    It never refuses the only replica, whose node could not be drained otherwise: a Deployment starts the replacement
    of an evicted pod only after the eviction. A pod that is not ready can always be evicted.
    """
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names.selector_labels(model.name, names.SERVE)},
    }
    name = names.serving_name(model.name)
    return manifest("policy/v1", "PodDisruptionBudget", model, name, names.SERVE, spec=spec)


def _strategy(kind: str) -> Manifest:
    if kind == "Recreate":
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _serving_config(model: Model, chain: Chain, evaluation: EvaluationStatus) -> ServingConfig:
    """The serving configuration: the evaluated engine, and the threshold of the spec or else of the evaluation."""
    serving = model.spec.serving
    threshold = evaluation.threshold if serving.threshold is None else serving.threshold
    compiled = evaluation.compiled_sha256 and CompiledCode(
        path=stage_folder(chain.evaluate) / COMPILED_FILE, sha256=evaluation.compiled_sha256
    )
    return ServingConfig(
        **dict(engine_config(model, chain.model_stage)),
        threshold=0.5 if threshold is None else threshold,
        metrics=_metrics(evaluation),
        base_model=base_model_name(model.spec.base_model),
        queue_limit=serving.queue_limit,
        http=serving.http,
        start_seconds=serving.start_seconds,
        compiled=compiled or None,
        report_dirs=[stage_folder(stage) for stage in (chain.train, chain.quantize, chain.evaluate) if stage],
        port=PORT,
    )


def api_token_env(model: Model) -> list[Manifest]:
    """The variable with the API token, for the server and the load test; empty if the spec names no Secret."""
    secret = model.spec.serving.api_token_secret_name
    if secret is None:
        return []
    return [{"name": TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": {"name": secret, "key": TOKEN_KEY}}}]


def _trace_env(http: HttpSpec) -> list[Manifest]:
    """OpenTelemetry's variable, which the service and its exporter read; empty if the spec names no collector."""
    return [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": http.otlp_endpoint}] if http.otlp_endpoint else []


def _metrics(record: EvaluationStatus) -> Metrics | None:
    """The metrics of the model card; None if the record lacks a required one."""
    required = [name for name, field in Metrics.model_fields.items() if field.is_required()]
    if any(getattr(record, name) is None for name in required):
        return None
    return Metrics.model_validate(record.model_dump(include=set(Metrics.model_fields)))


def _pod_spec(model: Model, chain: Chain, evaluation: EvaluationStatus, image: str) -> Manifest:
    serving = model.spec.serving
    volume, mount = artifacts_volume(model, read_only=True)
    volumes, mounts = scratch_volumes()
    main = container(
        names.SERVE,
        image,
        command=["python", "-m", "toxicity_serving"],
        env=[
            *env(engine_env(_serving_config(model, chain, evaluation), serving)),
            *api_token_env(model),
            *_trace_env(serving.http),
        ],
        ports=[{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        startupProbe=_probe("/healthz", period=5, failures=STARTUP_SECONDS // 5),
        readinessProbe=_probe("/readyz", period=5, failures=3),
        livenessProbe=_probe("/healthz", period=10, failures=6),
        resources=resources(serving),
        volumeMounts=[mount, *mounts],
    )
    init = download_containers(model, chain, image)
    secret_volumes, _ = object_store.secret_volumes(model.spec.storage.object_store)
    cache_volumes, _ = object_store.node_cache_volumes(model.spec.storage.node_cache)
    return {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **({"initContainers": init} if init else {}),
        "containers": [main],
        "volumes": [volume, *cache_volumes, *secret_volumes, *volumes],
        **placement(serving),
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
