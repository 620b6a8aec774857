"""The whole spec, with the blocks that belong to no stage: `storage` and `images`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxicity_api.base import Document
from toxicity_api.spec.fields import NonEmpty, Quantity, cel, unchanged
from toxicity_api.spec.loadtest import LoadTestSpec
from toxicity_api.spec.quality import EvaluationSpec, QualityGate, QuantizationSpec
from toxicity_api.spec.serving import ServingSpec
from toxicity_api.spec.sources import BaseModelSpec, DatasetSpec
from toxicity_api.spec.training import TrainingSpec

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


def _one_node() -> list[AccessMode]:
    return ["ReadWriteOnce"]


KEPT = ("storageClassName", "accessModes", "claimName", "reclaim")
UNCHANGED = "storage cannot be changed: the volume is made once"


class StorageSpec(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                # equal quantities can be written in several ways: 8Gi, 8192Mi
                cel(
                    "has(self.size) == has(oldSelf.size) && (!has(self.size) || self.size == oldSelf.size"
                    " || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) == 0)",
                    UNCHANGED,
                ),
                *(cel(unchanged(name), UNCHANGED) for name in KEPT),
            ]
        }
    }

    storage_class_name: str | None = Field(None, description="storageClassName. Unset means the default class.")
    size: Quantity = Field("20Gi", description="size of the artifact volume.")
    access_modes: list[AccessMode] = Field(
        default_factory=_one_node,
        min_length=1,
        description="accessModes of the artifact volume. Pods of several nodes need ReadWriteMany: a stage that finds a"
        " ReadWriteOnce volume in use on another node waits in ContainerCreating.",
    )
    claim_name: str | None = Field(None, description="claimName of an existing claim. Unset creates one.")
    reclaim: Literal["Delete", "Retain"] = Field(
        "Delete",
        description="reclaim: what becomes of the claim that the operator made when the resource is deleted. A retained"
        " one is taken up by the next resource of the name; its stages find there what they would make. Like all of"
        " storage it is chosen when the resource is made.",
    )


class ImagesSpec(Document):
    """Overrides per stage, whose defaults the operator's chart sets, and how images are pulled."""

    training: str | None = Field(None, description="training image.")
    quantization: str | None = Field(None, description="quantization image.")
    quantization_autoawq: str | None = Field(
        None, description="quantizationAutoawq: quantization image of the backend autoawq."
    )
    serving: str | None = Field(None, description="serving image.")
    loadtest: str | None = Field(None, description="loadtest image.")
    pull_secrets: list[NonEmpty] = Field(
        default_factory=list,
        max_length=8,
        description="pullSecrets: Secrets of the namespace with which the pods pull all of their images, those of"
        " dataset.image and baseModel.image too. Unset means what the node and the ServiceAccounts have.",
    )


class ToxicityModelSpec(Document):
    """A Russian toxicity classifier, from data to served and measured traffic."""

    dataset: DatasetSpec = Field(description="dataset of labelled comments.")
    base_model: BaseModelSpec = Field(description="baseModel that is fine-tuned.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="training of the LoRA adapter.")
    quantization: QuantizationSpec = Field(
        default_factory=QuantizationSpec, description="quantization of the merged model."
    )
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="evaluation of the model by the serving engine."
    )
    quality_gate: QualityGate = Field(default_factory=QualityGate, description="qualityGate before serving.")
    serving: ServingSpec = Field(default_factory=ServingSpec, description="serving over HTTP.")
    load_test: LoadTestSpec = Field(default_factory=LoadTestSpec, description="loadTest of the served model.")
    storage: StorageSpec = Field(default_factory=StorageSpec, description="storage of the artifacts.")
    operator_class: str = Field(
        "",
        max_length=63,
        pattern="^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="operatorClass of the operator that looks after the resource, where several share a cluster. Unset"
        " means the operator without a class. Changing it hands the resource, its children and artifacts over.",
    )
    paused: bool = Field(
        False,
        description="paused: nothing is made, changed or deleted. What runs goes on, and the status is kept up.",
    )
    images: ImagesSpec = Field(default_factory=ImagesSpec, description="images that replace the defaults.")
