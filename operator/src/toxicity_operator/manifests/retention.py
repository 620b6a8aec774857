"""Determines which results must stay on the artifact volume when a stage removes old ones. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, Retention
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.chain import Chain, base_model_fingerprint, dataset_fingerprint, held_out_fingerprint
from toxicity_operator.manifests.common import ARTIFACTS
from toxicity_operator.model import Model

FOLDER = re.compile(rf"{ARTIFACTS}/([a-z]+-[0-9a-f]+)")


def retention(model: Model, chain: Chain, serving: Iterable[Raw]) -> Retention | None:
    """What a stage of the chain keeps beside its own result; None if nothing is removed.

    `serving` are the pod templates of the deployed version and of those that a roll-back restores. Their pods read the
    folders that their configuration names, also after a restart or a roll-back.
    """
    versions = model.spec.storage.kept_versions
    if versions is None:
        return None
    stages = [stage for stage in (chain.train, chain.quantize, chain.evaluate, chain.loadtest) if stage]
    keep = {f"{stage.component}-{stage.fingerprint}" for stage in stages}
    keep |= {f"dataset-{dataset_fingerprint(model.spec)}", f"base-model-{base_model_fingerprint(model.spec)}"}
    keep |= {f"dataset-{held_out_fingerprint(model.spec, each)}" for each in model.spec.evaluation.test_sets}
    last_test = model.status.load_test_job
    keep |= {f"{names.LOADTEST}-{last_test.fingerprint}"} if last_test else set()
    keep |= {folder for template in serving for folder in _read_folders(template)}
    return Retention(keep=sorted(keep), versions=versions)


def _read_folders(template: Raw) -> list[str]:
    containers = template.get("spec", {}).get("containers", [])
    variables = (item for container in containers for item in container.get("env", []))
    configs = (item.get("value", "") for item in variables if item["name"] == STAGE_CONFIG_VARIABLE)
    return [folder for config in configs for folder in FOLDER.findall(config)]
