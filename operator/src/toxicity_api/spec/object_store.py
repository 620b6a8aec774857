"""Object storage as an alternative to the artifact volume, the scratch space of its pods, and a cache on each node."""

from __future__ import annotations

from pydantic import Field, field_validator

from toxicity_api.base import Document
from toxicity_api.quantities import quantity
from toxicity_api.spec.fields import NonEmpty, Quantity, cel

CACHE_SIZE_MESSAGE = "nodeCache.size must be more than 0: set it to a size such as 50Gi, or remove nodeCache"


class ObjectStore(Document):
    """A prefix of a bucket. The documents for the pods contain it too, so it holds names and no credentials."""

    url: str = Field(
        pattern=r"^(s3|gs|az)://[a-z0-9][a-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$",
        max_length=512,
        description="Bucket and prefix of the artifacts: s3://bucket/prefix, gs://bucket/prefix or"
        " az://container/prefix. Resources with the same url share finished stages. Nothing is deleted from"
        " it when the resource is deleted.",
    )
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(/[A-Za-z0-9._/-]*)?$",
        max_length=512,
        description="URL of the service, for S3-compatible servers and for Azure (https://ACCOUNT.blob.core.windows.net)."
        " http:// sends the artifacts unencrypted. Unset means the service of the cloud.",
    )
    region: NonEmpty | None = Field(
        None, description="Region of an S3 bucket. Unset means the region of the pod's environment, or us-east-1."
    )
    secret_name: NonEmpty | None = Field(
        None,
        description="Name of a Secret with the credentials. Keys for s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and"
        " optionally AWS_SESSION_TOKEN; for gs: GOOGLE_SERVICE_ACCOUNT_KEY, the JSON key; for az:"
        " AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN. Unset means the"
        " workload identity of the pod's ServiceAccount.",
    )
    ca_secret_name: NonEmpty | None = Field(
        None,
        description="Name of a Secret whose key ca.crt has the certificates, in PEM, of the authorities that the pods"
        " trust in addition to the system's. Unset means only the system's.",
    )


class Scratch(Document):
    """Temporary space of each pod, into which it downloads artifacts."""

    size: Quantity = Field(
        "20Gi",
        description="Size limit of the scratch space. It must hold the artifacts that a pod reads and writes. For"
        " training, these are the base model, two checkpoints and the merged model.",
    )
    storage_class_name: NonEmpty | None = Field(
        None,
        description="Storage class of a generic ephemeral volume for the scratch space. Unset means an emptyDir, which"
        " uses the disk of the node.",
    )


class NodeCache(Document):
    """Cache on each node for the files that serving pods download."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    "!has(self.size) || quantity(string(self.size)).isGreaterThan(quantity('0'))",
                    CACHE_SIZE_MESSAGE,
                )
            ]
        }
    }

    claim_name: NonEmpty = Field(
        description="Name of a PersistentVolumeClaim whose volume is a folder of the node, such as a local volume that"
        " matches several nodes. Only the container that downloads mounts it."
    )
    size: Quantity = Field(
        "20Gi",
        description="Maximum size of the cache on a node. The least recently used files are removed first. Resources"
        " that share a claim should set the same size.",
    )

    @property
    def size_bytes(self) -> int:
        return int(quantity(str(self.size)))

    @field_validator("size")
    @classmethod
    def _is_positive(cls, size: int | str) -> int | str:
        if quantity(str(size)) <= 0:
            raise ValueError(CACHE_SIZE_MESSAGE)
        return size
