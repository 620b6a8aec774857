"""`pod`: labels, environment, scheduling and volumes of a stage's pods.

The fields have the names and shapes of Kubernetes. A whole PodSpec would make the CRD larger than `kubectl apply`
accepts. Fields that the operator only copies (affinity, spread constraints, the sources of volumes) have no schema of
their own, so the API server checks them when the operator creates the Job or Deployment.

A rule that protects the containers exists twice: as a CEL rule, which refuses a resource at once, and as a validator,
which also checks the chart's defaults.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from toxicity_api.base import API_GROUP, Document
from toxicity_api.spec.fields import NonEmpty, cel, exactly_one

KEPT_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "pod-template-hash",
    "controller-uid",
    "job-name",
)
"""Labels that the operator or a controller of Kubernetes sets."""

KEPT_PREFIXES = (f"{API_GROUP}/", "batch.kubernetes.io/", "kueue.x-k8s.io/")
"""Prefixes of labels and annotations that the operator or a controller sets."""

KEPT_VARIABLES = (
    "API_TOKEN",
    "DO_NOT_TRACK",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HOME",
    "KAGGLE_KEY",
    "KAGGLE_USERNAME",
    "OMP_NUM_THREADS",
    "STAGE_CONFIG",
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_NO_USAGE_STATS",
)
"""Environment variables that the operator sets in a container."""

KEPT_VOLUMES = (
    "artifacts", "base-model", "dataset", "node-cache", "shared-memory", "store-ca", "store-credentials", "tmp",
    "tools",
)  # fmt: skip
"""Names of the volumes that the operator adds to a pod."""

KEPT_FOLDERS = (
    "artifacts", "bin", "data", "dev", "lib", "lib64", "node-cache", "opt", "proc", "run", "sbin", "sys", "tools",
    "usr",
)  # fmt: skip
"""Top-level folders in which the images or the operator keep files. Nothing can be mounted in them."""

KEPT_PATHS = ("/etc", "/tmp", "/var")
"""Folders in which volumes can be mounted, but which a volume cannot replace."""

TOKENS = "/var/run"
"""Folder of the ServiceAccount tokens."""

LOADTEST_SUFFIX = "-loadtest"
"""End of the names of the ServiceAccounts that the operator creates for load tests."""

LABELS_MESSAGE = (
    f"pod.labels and pod.annotations must not contain {', '.join(KEPT_LABELS)}, or a key with the prefix"
    f" {', '.join(KEPT_PREFIXES)}: the operator or a controller sets these. Choose another key; use pod.queueName for"
    " Kueue"
)
VARIABLES_MESSAGE = (
    f"pod.env must not contain {', '.join(KEPT_VARIABLES)}: the operator sets these from other fields of the spec."
    " Remove the entry"
)
VOLUMES_MESSAGE = (
    f"pod.volumes must not be named {', '.join(KEPT_VOLUMES)}: the operator adds volumes of these names"
)
MOUNTS_MESSAGE = (
    f"pod.volumeMounts must not hide files of the container: mountPath must not be {', '.join(KEPT_PATHS)}, and not in"
    f" {TOKENS}, /{', /'.join(KEPT_FOLDERS)}. Choose another path, such as /mnt/name"
)
UNKNOWN_VOLUME_MESSAGE = "pod.volumeMounts must name an entry of pod.volumes: add the volume, or correct the name"
ACCOUNT_MESSAGE = (
    f"pod.serviceAccountName must not end in {LOADTEST_SUFFIX}: the operator creates ServiceAccounts of such names for"
    " load tests. Use another ServiceAccount"
)
VALUE_MESSAGE = "an entry of pod.env must not have both value and valueFrom: remove one of them"

DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
Verbatim = Annotated[dict[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object that is copied into the pod. Its fields are those of Kubernetes."""


class EnvVar(Document):
    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [cel("!(has(self.value) && has(self.valueFrom))", VALUE_MESSAGE)]
        }
    }

    name: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$",
        description="Name of the environment variable.",
    )
    value: str | None = Field(
        None, description="Value. $(NAME) refers to a variable of the container. Unset means empty."
    )
    value_from: Verbatim | None = Field(
        None, description="Source of the value: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef."
    )


class NamedSource(Document):
    name: ObjectName = Field(description="Name of the object in the resource's namespace.")
    optional: bool = Field(False, description="Whether the pod starts if the object does not exist.")


class EnvSource(Document):
    """Variables for all keys of a ConfigMap or of a Secret."""

    model_config = {"json_schema_extra": exactly_one("configMapRef", "secretRef")}

    prefix: str | None = Field(None, max_length=256, description="Text in front of each name. Unset means none.")
    config_map_ref: NamedSource | None = Field(None, description="ConfigMap whose keys become variables.")
    secret_ref: NamedSource | None = Field(None, description="Secret whose keys become variables.")


class ProjectedSource(Document):
    """A source of a projected volume. A Secret needs a volume of its own, so that policies see its name."""

    model_config = {
        "json_schema_extra": exactly_one("serviceAccountToken", "configMap", "downwardAPI", "clusterTrustBundle")
    }

    service_account_token: Verbatim | None = Field(None, description="Token of the pod's ServiceAccount.")
    config_map: Verbatim | None = Field(None, description="Files from a ConfigMap.")
    downward_api: Verbatim | None = Field(None, alias="downwardAPI", description="Fields of the pod.")
    cluster_trust_bundle: Verbatim | None = Field(None, description="Certificates of a ClusterTrustBundle.")


class Projected(Document):
    sources: list[ProjectedSource] = Field(min_length=1, max_length=8, description="Sources of the files.")


class CsiVolume(Document):
    driver: ObjectName = Field(description="Name of the CSI driver.")
    read_only: bool = Field(False, description="Whether the volume is read-only.")
    volume_attributes: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Parameters of the driver. Unset means none."
    )


class Volume(Document):
    """A volume of one of the types that the Pod Security level `restricted` allows."""

    model_config = {
        "json_schema_extra": exactly_one(
            "configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "csi", "ephemeral"
        )
    }

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Name to which volumeMounts refer.",
    )
    config_map: Verbatim | None = Field(None, description="Files from a ConfigMap.")
    secret: Verbatim | None = Field(None, description="Files from a Secret.")
    empty_dir: Verbatim | None = Field(None, description="Empty folder that is deleted with the pod.")
    persistent_volume_claim: Verbatim | None = Field(None, description="Existing PersistentVolumeClaim.")
    projected: Projected | None = Field(None, description="Several sources in one folder.")
    csi: CsiVolume | None = Field(None, description="Volume of a CSI driver that exists as long as the pod.")
    ephemeral: Verbatim | None = Field(None, description="PersistentVolumeClaim that is deleted with the pod.")


class VolumeMount(Document):
    name: NonEmpty = Field(max_length=63, description="Name of the volume.")
    mount_path: str = Field(
        min_length=2,
        max_length=512,
        pattern=r"^(/[.]?[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
        description="Absolute path in the container.",
    )
    sub_path: str | None = Field(None, max_length=512, description="Path inside the volume. Unset means its root.")
    read_only: bool = Field(False, description="Whether the container can only read it.")


def _is_kept(key: str) -> bool:
    return key in KEPT_LABELS or key.startswith(KEPT_PREFIXES)


def _hides_files(path: str) -> bool:
    return path in KEPT_PATHS or path.startswith(TOKENS) or path.split("/")[1] in KEPT_FOLDERS


def _rules() -> list[JsonValue]:
    """The rules of `pod` in CEL."""
    prefixes = " && ".join(f"!key.startsWith('{prefix}')" for prefix in KEPT_PREFIXES)
    kept = f"!(key in {list(KEPT_LABELS)}) && {prefixes}"
    hidden = (
        f"!(mount.mountPath in {list(KEPT_PATHS)}) && !mount.mountPath.startsWith('{TOKENS}')"
        f" && !(mount.mountPath.split('/')[1] in {list(KEPT_FOLDERS)})"
    )
    known = "has(self.volumes) && self.volumes.exists(volume, volume.name == mount.name)"
    return [
        cel(f"!has(self.labels) || self.labels.all(key, {kept})", LABELS_MESSAGE),
        cel(f"!has(self.annotations) || self.annotations.all(key, {kept})", LABELS_MESSAGE),
        cel(
            f"!has(self.env) || self.env.all(item, !(item.name in {list(KEPT_VARIABLES)}))",
            VARIABLES_MESSAGE,
        ),
        cel(
            f"!has(self.volumes) || self.volumes.all(volume, !(volume.name in {list(KEPT_VOLUMES)}))",
            VOLUMES_MESSAGE,
        ),
        cel(f"!has(self.volumeMounts) || self.volumeMounts.all(mount, {hidden})", MOUNTS_MESSAGE),
        cel(f"!has(self.volumeMounts) || self.volumeMounts.all(mount, {known})", UNKNOWN_VOLUME_MESSAGE),
        cel(
            f"!has(self.serviceAccountName) || !self.serviceAccountName.endsWith('{LOADTEST_SUFFIX}')",
            ACCOUNT_MESSAGE,
        ),
    ]


class PodSettings(Document):
    """Labels, environment, scheduling and volumes of the pods. None of these fields runs a finished stage again."""

    model_config = {"json_schema_extra": {"x-kubernetes-validations": _rules()}}

    labels: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Additional labels of the pods. Unset means none."
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Additional annotations of the pods. Unset means none."
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=64,
        description="Additional environment variables of the stage's container and of the downloads before it.",
    )
    env_from: list[EnvSource] = Field(
        default_factory=list,
        max_length=16,
        description="ConfigMaps and Secrets whose keys become environment variables. Variables that the operator or"
        " env sets have precedence.",
    )
    affinity: Verbatim | None = Field(None, description="Affinity of the pods, as in a pod. Unset means none.")
    topology_spread_constraints: list[Verbatim] = Field(
        default_factory=list,
        max_length=8,
        description="Topology spread constraints, as in a pod. An unset labelSelector selects the pods of the stage."
        " Unset spreads serving pods over nodes and zones if possible.",
    )
    priority_class_name: ObjectName | None = Field(
        None, description="Name of the PriorityClass. Unset means the cluster's default."
    )
    runtime_class_name: ObjectName | None = Field(
        None, description="Name of the RuntimeClass. Unset means the node's default runtime."
    )
    scheduler_name: ObjectName | None = Field(
        None, description="Name of the scheduler. Unset means default-scheduler."
    )
    service_account_name: ObjectName | None = Field(
        None,
        description="Name of an existing ServiceAccount, for example for workload identity. Its token is not mounted."
        " Unset means default. The load test has its own ServiceAccount.",
    )
    volumes: list[Volume] = Field(
        default_factory=list, max_length=16, description="Additional volumes of the pods. Unset means none."
    )
    volume_mounts: list[VolumeMount] = Field(
        default_factory=list,
        max_length=32,
        description="Mounts of the additional volumes in the stage's container and in the downloads before it.",
    )
    gpu_resource_name: str | None = Field(
        None,
        max_length=253,
        pattern=r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="Name of the resource that gpus counts, such as amd.com/gpu or nvidia.com/mig-1g.10gb. Unset"
        " means nvidia.com/gpu.",
    )
    queue_name: str | None = Field(
        None,
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Name of Kueue's LocalQueue that admits the Job or Deployment. Unset means no queue.",
    )

    @field_validator("labels", "annotations")
    @classmethod
    def _set_by_the_user(cls, value: dict[str, str]) -> dict[str, str]:
        if any(map(_is_kept, value)):
            raise ValueError(LABELS_MESSAGE)
        return value

    @field_validator("env")
    @classmethod
    def _not_ours(cls, value: list[EnvVar]) -> list[EnvVar]:
        if any(item.name in KEPT_VARIABLES for item in value):
            raise ValueError(VARIABLES_MESSAGE)
        return value

    @field_validator("volumes")
    @classmethod
    def _of_other_names(cls, value: list[Volume]) -> list[Volume]:
        if any(volume.name in KEPT_VOLUMES for volume in value):
            raise ValueError(VOLUMES_MESSAGE)
        return value

    @field_validator("volume_mounts")
    @classmethod
    def _beside_our_files(cls, value: list[VolumeMount]) -> list[VolumeMount]:
        if any(_hides_files(mount.mount_path) for mount in value):
            raise ValueError(MOUNTS_MESSAGE)
        return value

    @field_validator("service_account_name")
    @classmethod
    def _of_no_load_test(cls, value: str | None) -> str | None:
        if value is not None and value.endswith(LOADTEST_SUFFIX):
            raise ValueError(ACCOUNT_MESSAGE)
        return value

    @model_validator(mode="after")
    def _mounts_known_volumes(self) -> Self:
        if not {mount.name for mount in self.volume_mounts} <= {volume.name for volume in self.volumes}:
            raise ValueError(UNKNOWN_VOLUME_MESSAGE)
        return self

    def secret_names(self) -> list[str]:
        """Names of the Secrets that env, envFrom and volumes refer to."""
        references = [(item.value_from or {}).get("secretKeyRef") for item in self.env]
        found = [reference.get("name") for reference in references if isinstance(reference, dict)]
        found += [source.secret_ref.name for source in self.env_from if source.secret_ref]
        found += [volume.secret.get("secretName") for volume in self.volumes if volume.secret]
        return list(dict.fromkeys(map(str, filter(None, found))))
