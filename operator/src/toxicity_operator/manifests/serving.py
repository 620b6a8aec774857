"""The Deployment of vLLM behind FastAPI, and its Service."""

from __future__ import annotations

from pathlib import Path

from toxicity_api.results import Metrics
from toxicity_api.spec import BaseModelSpec
from toxicity_api.stage_config import ServingConfig
from toxicity_api.status import QuantizationStatus, TrainingStatus
from toxicity_operator import names
from toxicity_operator.chain import Chain
from toxicity_operator.manifests.common import (
    ARTIFACTS,
    Manifest,
    artifacts_volume,
    container,
    env,
    manifest,
    placement,
    pod_template,
    resources,
    scratch_volumes,
    stage_env,
)
from toxicity_operator.model import Model

PORT = 8000
STARTUP_SECONDS = 600
GRACE_SECONDS = 60
CPU_ENGINE_ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
}


def build_deployment(
    model: Model, chain: Chain, training: TrainingStatus, quantization: QuantizationStatus | None, image: str
) -> Manifest:
    """The Deployment that serves the chain's model. Under autoscaling it leaves `replicas` to the autoscaler."""
    serving = model.spec.serving
    name = names.serving_name(model.name)
    annotations = {
        names.SERVING_FINGERPRINT: chain.serving_fingerprint,
        names.MODEL_FINGERPRINT: chain.model_stage.fingerprint,
    }
    template = pod_template(model, names.SERVE, _pod_spec(model, chain, training, quantization, image))
    template["metadata"]["annotations"] = annotations
    spec: Manifest = {
        "selector": {"matchLabels": names.selector_labels(model.name, names.SERVE)},
        "strategy": _strategy(serving.strategy),
        "template": template,
    }
    if serving.autoscaling is None:
        spec["replicas"] = 1 if serving.replicas is None else serving.replicas
    deployment = manifest("apps/v1", "Deployment", model, name, names.SERVE, spec=spec)
    deployment["metadata"]["annotations"] = annotations
    return deployment


def build_service(model: Model) -> Manifest:
    """The Service other workloads call."""
    spec = {
        "selector": names.selector_labels(model.name, names.SERVE),
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    }
    return manifest("v1", "Service", model, names.serving_name(model.name), names.SERVE, spec=spec)


def _strategy(kind: str) -> Manifest:
    if kind == "Recreate":
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _serving_config(
    model: Model, chain: Chain, training: TrainingStatus, quantization: QuantizationStatus | None
) -> ServingConfig:
    serving, stage = model.spec.serving, chain.model_stage
    chosen = (quantization or training).threshold
    threshold = serving.threshold if serving.threshold is not None else chosen
    return ServingConfig(
        model=model.name,
        fingerprint=stage.fingerprint,
        model_dir=Path(ARTIFACTS, f"{stage.component}-{stage.fingerprint}", "model"),
        prompt_template=model.spec.training.prompt_template,
        labels=model.spec.training.labels,
        threshold=0.5 if threshold is None else threshold,
        metrics=_metrics(quantization or training),
        base_model=_base_model_name(model.spec.base_model),
        max_model_len=serving.max_model_len,
        max_num_seqs=serving.max_num_seqs,
        kv_cache_dtype=serving.kv_cache_dtype,
        gpu_memory_utilization=serving.gpu_memory_utilization,
        gpus=serving.gpus,
        port=PORT,
    )


def _metrics(record: TrainingStatus | QuantizationStatus) -> Metrics | None:
    """The model card's figures; None when the record lacks one that every card has."""
    required = [name for name, field in Metrics.model_fields.items() if field.is_required()]
    if any(getattr(record, name) is None for name in required):
        return None
    return Metrics.model_validate(record.model_dump(include=set(Metrics.model_fields)))


def _base_model_name(base: BaseModelSpec) -> str:
    if base.hugging_face:
        return f"{base.hugging_face.repo}@{base.hugging_face.revision}"
    if base.image:
        return base.image.reference
    return base.persistent_volume_claim.path if base.persistent_volume_claim else ""


def _pod_spec(
    model: Model, chain: Chain, training: TrainingStatus, quantization: QuantizationStatus | None, image: str
) -> Manifest:
    serving = model.spec.serving
    variables = stage_env(_serving_config(model, chain, training, quantization), serving)
    variables |= CPU_ENGINE_ENV if serving.gpus == 0 else {}
    variables |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    volume, mount = artifacts_volume(model, read_only=True)
    volumes, mounts = scratch_volumes()
    main = container(
        names.SERVE,
        image,
        command=["python", "-m", "toxicity_serving"],
        env=env(variables),
        ports=[{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        startupProbe=_probe("/healthz", period=5, failures=STARTUP_SECONDS // 5),
        readinessProbe=_probe("/readyz", period=5, failures=3),
        livenessProbe=_probe("/healthz", period=10, failures=6),
        resources=resources(serving),
        volumeMounts=[mount, *mounts],
    )
    return {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [main],
        "volumes": [volume, *volumes],
        **placement(serving),
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
