"""The evaluation Job, which measures the model in the serving engine before it serves."""

from __future__ import annotations

from toxicity_api.stage_config import EvaluationConfig, HeldOutConfig, Retention
from toxicity_operator.chain import Chain, threshold_goal
from toxicity_operator.manifests.common import Manifest, artifacts_volume, env, stage_folder
from toxicity_operator.manifests.engine import engine_config, engine_env
from toxicity_operator.manifests.job import build_job, stage_pod
from toxicity_operator.manifests.object_store import artifact_owner
from toxicity_operator.manifests.sources import add_sources, held_out_source
from toxicity_operator.model import Model


def build_evaluation_job(
    model: Model, chain: Chain, image: str, training_image: str, retention: Retention | None = None
) -> Manifest:
    """The evaluation Job, with the image and the pod fields of the serving pods.

    Init containers with the training image download or copy the test sets.
    """
    stage, serving, spec = chain.evaluate, model.spec.serving, model.spec.evaluation
    _, mount = artifacts_volume(model, read_only=False)
    sources = [held_out_source(model.spec, each, mount, training_image) for each in spec.test_sets]
    config = EvaluationConfig(
        model=model.name,
        fingerprint=stage.fingerprint,
        served=engine_config(model, chain.model_stage),
        original=engine_config(model, chain.train) if chain.quantize else None,
        splits_dir=stage_folder(chain.train) / "splits",
        seed=model.spec.training.seed,
        retention=retention,
        threshold=threshold_goal(model.spec),
        test_sets=[
            HeldOutConfig(
                name=each.name,
                path=source.path,
                text_column=each.text_column,
                label_column=each.label_column,
            )
            for each, source in zip(spec.test_sets, sources, strict=True)
        ]
        or None,
        object_store=model.spec.storage.object_store,
        owner=artifact_owner(model),
    )
    pod = stage_pod(
        model,
        stage,
        image,
        "toxicity_evaluation",
        env(engine_env(config, serving)),
        serving,
        more_volumes=[volume for source in sources for volume in source.volumes],
        more_mounts=[mount for source in sources for mount in source.mounts],
    )
    add_sources(pod, sources, training_image, serving)
    return build_job(
        model, stage, pod, backoff_limit=spec.backoff_limit, deadline_seconds=spec.active_deadline_seconds
    )
