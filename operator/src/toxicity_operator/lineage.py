"""What a model is made of, in one place of the status; pure."""

from __future__ import annotations

from toxicity_api.status import Lineage
from toxicity_operator.manifests.sources import base_model_name, dataset_name
from toxicity_operator.stages import Situation


def derive_lineage(situation: Situation) -> Lineage:
    """The lineage of the chain's model; what is not known yet is left out."""
    spec, records, chain = situation.model.spec, situation.records, situation.chain
    data = records.trained.data if records.trained else None
    return Lineage(
        dataset=dataset_name(spec.dataset),
        base_model=base_model_name(spec.base_model),
        split_hash=data.split_hash if data else None,
        calibration_hash=records.quantized.calibration_hash if records.quantized else None,
        engine=records.evaluated.engine if records.evaluated else None,
        revision=chain.model_stage.fingerprint,
    )
