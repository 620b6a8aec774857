"""Configuration of the serving engine, shared by the evaluation Job and the serving Deployment."""

from __future__ import annotations

from toxicity_api.base import Document
from toxicity_api.spec import ServingSpec
from toxicity_api.stage_config import EngineConfig
from toxicity_operator.chain import JobStage
from toxicity_operator.manifests.common import stage_env, stage_folder
from toxicity_operator.model import Model

CPU_ENGINE_ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def engine_config(model: Model, stage: JobStage) -> EngineConfig:
    """The engine configuration for the weights of `stage`."""
    serving = model.spec.serving
    return EngineConfig(
        model=model.name,
        fingerprint=stage.fingerprint,
        model_dir=stage_folder(stage) / "model",
        prompt_template=model.spec.training.prompt_template,
        labels=model.spec.training.labels,
        max_model_len=serving.max_model_len,
        long_texts=serving.long_texts,
        max_num_seqs=serving.max_num_seqs,
        kv_cache_dtype=serving.kv_cache_dtype,
        gpu_memory_utilization=serving.gpu_memory_utilization,
        enforce_eager=serving.enforce_eager,
        gpus=serving.gpus,
    )


def engine_env(config: Document, serving: ServingSpec) -> dict[str, str]:
    """The environment variables of a container that runs the engine."""
    variables = stage_env(config, serving)
    variables |= CPU_ENGINE_ENV if serving.gpus == 0 else {}
    return variables | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
