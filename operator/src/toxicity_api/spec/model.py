"""The complete spec, with the parts that belong to no stage: `storage` and `images`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from toxicity_api.base import Document
from toxicity_api.spec.fields import NonEmpty, Quantity, cel, unchanged
from toxicity_api.spec.loadtest import LoadTestSpec
from toxicity_api.spec.object_store import NodeCache, ObjectStore, Scratch
from toxicity_api.spec.quality import EvaluationSpec, QualityGate, QuantizationSpec
from toxicity_api.spec.serving import ServingSpec
from toxicity_api.spec.sources import BaseModelSpec, DatasetSpec
from toxicity_api.spec.training import TrainingSpec

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


def _one_node() -> list[AccessMode]:
    return ["ReadWriteOnce"]


DEFAULT_KEPT = 2
KEPT = ("storageClassName", "accessModes", "claimName", "reclaim")
UNCHANGED = (
    "storage cannot be changed after creation, except for a larger size: delete the resource and create it with the new"
    " storage"
)
NODE_CACHE_MESSAGE = "nodeCache is used only with storage.objectStore: set objectStore, or remove nodeCache"
VOLUME_FIELDS = (
    "!has(self.objectStore) || (!has(self.claimName) && !has(self.storageClassName)"
    " && (!has(self.size) || quantity(string(self.size)).compareTo(quantity('20Gi')) == 0)"
    " && (!has(self.accessModes) || self.accessModes == ['ReadWriteOnce'])"
    " && (!has(self.reclaim) || self.reclaim == 'Delete'))"
)


class StorageSpec(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                # equal quantities have several notations: 8Gi, 8192Mi
                cel(
                    "has(self.size) == has(oldSelf.size) && (!has(self.size) || self.size == oldSelf.size"
                    " || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0)",
                    UNCHANGED,
                ),
                *(cel(unchanged(name), UNCHANGED) for name in KEPT),
                cel(
                    "has(self.objectStore) == has(oldSelf.objectStore)"
                    " && (!has(self.objectStore) || self.objectStore.url == oldSelf.objectStore.url)",
                    UNCHANGED,
                ),
                cel(
                    VOLUME_FIELDS,
                    "objectStore replaces the volume: remove claimName, storageClassName, size, accessModes,"
                    " and reclaim, and set storage.scratch for the space that pods work in",
                ),
                cel(
                    "!has(self.scratch) || has(self.objectStore)", "scratch is used only with storage.objectStore"
                ),
                cel("!has(self.nodeCache) || has(self.objectStore)", NODE_CACHE_MESSAGE),
            ]
        }
    }

    storage_class_name: str | None = Field(
        None, description="Name of the storage class of the artifact volume. Unset means the default class."
    )
    size: Quantity = Field(
        "20Gi", description="Size of the artifact volume. It can grow later, if the storage class allows it."
    )
    access_modes: list[AccessMode] = Field(
        default_factory=_one_node,
        min_length=1,
        description="Access modes of the artifact volume. ReadWriteMany lets the pods run on several nodes. With"
        " ReadWriteOnce, the operator places all pods of the model on one node.",
    )
    claim_name: str | None = Field(
        None, description="Name of an existing PersistentVolumeClaim. Unset means that the operator creates one."
    )
    keep_versions: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Number of results of each stage that stay. A stage removes older ones before it starts, with"
        " their checkpoints and downloads, but never one that is served or that a roll-back restores. In an object"
        " store it removes only what this resource has published. Unset means 2, or all with claimName or objectStore.",
    )
    reclaim: Literal["Delete", "Retain"] = Field(
        "Delete",
        description="Whether the claim that the operator created is deleted or retained when the resource is deleted."
        " The next resource with the same name uses a retained claim and its finished stages. Like all of storage, it"
        " cannot be changed later.",
    )
    object_store: ObjectStore | None = Field(
        None,
        description="Object store for the artifacts, instead of a volume. Pods then run on any node. Unset means a"
        " volume. The url cannot be changed later.",
    )
    scratch: Scratch | None = Field(
        None,
        description="Space in which pods work on artifacts of the object store. Unset means an emptyDir of 20Gi.",
    )
    node_cache: NodeCache | None = Field(
        None,
        description="Cache on each node for the files that serving pods download from the object store, so that a pod"
        " starts sooner. Unset means that each pod downloads all its files.",
    )

    @model_validator(mode="after")
    def _node_cache_is_of_a_store(self) -> Self:
        if self.node_cache is not None and self.object_store is None:
            raise ValueError(NODE_CACHE_MESSAGE)
        return self

    @property
    def makes_claim(self) -> bool:
        """Whether the operator creates the PersistentVolumeClaim."""
        return self.claim_name is None and self.object_store is None

    @property
    def kept_versions(self) -> int | None:
        """keepVersions, or its default; None removes nothing, since others may use a claim or a bucket."""
        return self.keep_versions or (DEFAULT_KEPT if self.makes_claim else None)


class ImagesSpec(Document):
    """Images per stage, which replace the defaults of the operator's chart, and the Secrets to pull them with."""

    training: str | None = Field(
        None, description="Image of the training Job. Unset means the operator's default."
    )
    quantization: str | None = Field(
        None, description="Image of the quantization Job. Unset means the operator's default."
    )
    quantization_autoawq: str | None = Field(
        None, description="Image of the quantization Job with backend autoawq. Unset means the operator's default."
    )
    serving: str | None = Field(
        None,
        description="Image of the serving pods and of the evaluation Job. Unset means the operator's default.",
    )
    loadtest: str | None = Field(
        None, description="Image of the load test Job. Unset means the operator's default."
    )
    pull_secrets: list[NonEmpty] = Field(
        default_factory=list,
        max_length=8,
        description="Names of Secrets in the namespace with which the pods pull all their images, including those of"
        " dataset.image and baseModel.image. Unset means the credentials of the node and of the"
        " ServiceAccounts.",
    )


LOADTEST_ACCOUNT_MESSAGE = (
    "loadTest.pod.serviceAccountName cannot be set: the load test writes its results with a ServiceAccount of its own."
    " Remove the field"
)


class ToxicityModelSpec(Document):
    """A Russian toxicity classifier, from data to served and measured traffic."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!has(self.loadTest) || !has(self.loadTest.pod) || !has(self.loadTest.pod.serviceAccountName)",
                    LOADTEST_ACCOUNT_MESSAGE,
                )
            ]
        }
    }

    dataset: DatasetSpec = Field(description="Dataset of labelled comments.")
    base_model: BaseModelSpec = Field(description="Base model to fine-tune.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="Training of the LoRA adapter.")
    quantization: QuantizationSpec = Field(
        default_factory=QuantizationSpec, description="Quantization of the merged model."
    )
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="Evaluation of the model by the serving engine."
    )
    quality_gate: QualityGate = Field(
        default_factory=QualityGate, description="Quality that the model must reach before it serves."
    )
    serving: ServingSpec = Field(default_factory=ServingSpec, description="Serving over HTTP.")
    load_test: LoadTestSpec = Field(default_factory=LoadTestSpec, description="Load test of the served model.")
    storage: StorageSpec = Field(default_factory=StorageSpec, description="Storage of the artifacts.")
    operator_class: str = Field(
        "",
        max_length=63,
        pattern="^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="Class of the operator that manages the resource, where several operators share a cluster. Unset"
        " means the operator without a class. Changing it hands over the resource, its children and its"
        " artifacts.",
    )
    paused: bool = Field(
        False,
        description="Pauses the resource. The operator creates, changes and deletes nothing. Running children"
        " continue, and the operator updates the status.",
    )
    images: ImagesSpec = Field(
        default_factory=ImagesSpec,
        description="Images that replace the operator's defaults, and the Secrets to pull them with.",
    )

    @model_validator(mode="after")
    def _load_test_has_its_account(self) -> Self:
        if self.load_test.settings.service_account_name is not None:
            raise ValueError(LOADTEST_ACCOUNT_MESSAGE)
        return self
