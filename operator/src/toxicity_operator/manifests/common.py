"""Shared parts of the manifests: metadata, applied hash, security contexts, volumes, environment and resources."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toxicity_api.base import Document
from toxicity_api.spec import PodFields, Scratch
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE
from toxicity_operator import names
from toxicity_operator.chain import JobStage
from toxicity_operator.model import Model

Manifest = dict[str, Any]

ARTIFACTS = "/artifacts"
USER_ID = 10001
DEFAULT_REQUESTS = {"cpu": "1", "memory": "2Gi"}
STAGE_SPECS = ("training", "quantization", "load_test")
"""Fields of a stage configuration with a part of the spec. The pod settings in it are of no use to a container."""


def manifest(api_version: str, kind: str, model: Model, name: str, component: str, **fields: Any) -> Manifest:
    """A child of the model with its metadata and owner reference. `fields` are its other top-level fields."""
    metadata = {
        "name": name,
        "namespace": model.namespace,
        "labels": names.labels(model.name, component),
        "ownerReferences": [model.identity.owner_reference()],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def of_existing(body: Manifest, live: Mapping[str, Any]) -> Manifest:
    """Identifying fields for a partial write of `body` to the `live` object. The uid excludes any other object."""
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid")}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata}


def content_hash(body: Mapping[str, Any]) -> str:
    """Hash of a manifest, which must not contain the applied-hash annotation."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def seal(body: Manifest) -> Manifest:
    """The manifest with its hash in an annotation, which shows a later pass whether the object is up to date.

    A Deployment's pod template is hashed by its annotations, which contain its version. A template read back from the
    API server contains defaults, and would otherwise have another hash.
    """
    hashed = body
    if body["kind"] == "Deployment":
        hashed = {**body, "spec": body["spec"] | {"template": body["spec"]["template"]["metadata"]["annotations"]}}
    metadata = body["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED_HASH: content_hash(hashed)}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def security_context() -> Manifest:
    """The security context of a container, which meets the `restricted` Pod Security Standard."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_security_context() -> Manifest:
    """The security context of a pod: an unprivileged user, which also owns the files on the volume."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def env(variables: Mapping[str, str]) -> list[Manifest]:
    """Environment variables in the given order, with values escaped against expansion by Kubernetes."""
    return [{"name": name, "value": verbatim(value)} for name, value in variables.items()]


def verbatim(text: str) -> str:
    """Escape `$`, with which a reference starts in environment variables and arguments of Kubernetes."""
    return text.replace("$", "$$")


def stage_env(config: Document, pod: PodFields, *, offline: bool = True) -> dict[str, str]:
    """The environment of every stage container: configuration, home directory, offline mode and thread count."""
    offline_env = {"HF_HUB_OFFLINE": "1"} if offline else {}
    threads = thread_count(pod)
    # a stage has one process per GPU
    thread_env = {"OMP_NUM_THREADS": str(max(1, threads // max(1, pod.gpus)))} if threads else {}
    document = config.model_dump_json(
        by_alias=True, exclude_none=True, exclude={key: {"pod"} for key in STAGE_SPECS}
    )
    return {STAGE_CONFIG_VARIABLE: document, "HOME": "/tmp", **offline_env, **thread_env}


def thread_count(pod: PodFields) -> int | None:
    """The CPU limit in cores, rounded up; None without a limit in cores or millicores."""
    limit = pod.resources.limits.get("cpu")
    if limit is None:
        return None
    found = re.fullmatch(r"([0-9.]+)(m?)", str(limit))
    if found is None:
        return None
    return max(1, math.ceil(float(found[1]) / (1000 if found[2] else 1)))


def resources(pod: PodFields, default_requests: Mapping[str, str] = DEFAULT_REQUESTS) -> Manifest:
    """Requests and limits of a stage container: from the spec, plus the GPUs, plus default requests."""
    gpus = {pod.settings.gpu_resource_name or names.GPU_RESOURCE: pod.gpus} if pod.gpus else {}
    limits = {**pod.resources.limits, **gpus}
    implied = {key: value for key, value in default_requests.items() if key not in limits}
    requests = {**implied, **pod.resources.requests, **gpus}
    both = {"requests": requests, "limits": limits}
    return {kind: amounts for kind, amounts in both.items() if amounts}


def placement(pod: PodFields) -> Manifest:
    """The node selector and the tolerations of a pod."""
    fields: Manifest = {}
    if pod.node_selector:
        fields["nodeSelector"] = dict(pod.node_selector)
    if pod.tolerations:
        fields["tolerations"] = [toleration.to_wire() for toleration in pod.tolerations]
    return fields


def stage_folder(stage: JobStage) -> Path:
    """The output folder of a stage, as mounted in a pod."""
    return Path(ARTIFACTS, f"{stage.component}-{stage.fingerprint}")


def artifacts_volume(model: Model, *, read_only: bool) -> tuple[Manifest, Manifest]:
    """The volume of the model's artifacts, or the scratch space for those in an object store, and its mount."""
    claim = model.spec.storage.claim_name or names.claim_name(model.name)
    mount: Manifest = {"name": "artifacts", "mountPath": ARTIFACTS}
    if read_only:
        mount["readOnly"] = True
    if model.spec.storage.object_store is not None:
        return {"name": "artifacts", **scratch_space(model.spec.storage.scratch or Scratch())}, mount
    return {"name": "artifacts", "persistentVolumeClaim": {"claimName": claim}}, mount


def scratch_space(scratch: Scratch) -> Manifest:
    """The source of a volume that is deleted with its pod."""
    if scratch.storage_class_name is None:
        return {"emptyDir": {"sizeLimit": scratch.size}}
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": scratch.storage_class_name,
        "resources": {"requests": {"storage": scratch.size}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": spec}}}


def runs_with(body: Manifest) -> list[tuple[str, str]]:
    """Kind and name of the claims and the ServiceAccount that the pods of a Job or Deployment use."""
    if body["kind"] not in ("Job", "Deployment"):
        return []
    pod = body["spec"]["template"]["spec"]
    volumes = [
        volume["persistentVolumeClaim"] for volume in pod.get("volumes", []) if "persistentVolumeClaim" in volume
    ]
    found = [("PersistentVolumeClaim", volume["claimName"]) for volume in volumes]
    return found + ([("ServiceAccount", pod["serviceAccountName"])] if "serviceAccountName" in pod else [])


def scratch_volumes() -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and mounts of /tmp and /dev/shm. The root file system is read-only."""
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    return volumes, [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]


def container(name: str, image: str, **fields: Any) -> Manifest:
    """A container with the fields that all containers share."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security_context(),
        **fields,
    }


def pod_template(model: Model, component: str, spec: Manifest) -> Manifest:
    """A pod template with the component's labels and the fields that all pods share."""
    common: Manifest = {
        "securityContext": pod_security_context(),
        "automountServiceAccountToken": False,
        # a Service named vllm would set VLLM_PORT=tcp://... in every pod, and vLLM would exit
        "enableServiceLinks": False,
    }
    if model.spec.images.pull_secrets:
        common["imagePullSecrets"] = [{"name": secret} for secret in model.spec.images.pull_secrets]
    return {"metadata": {"labels": names.labels(model.name, component)}, "spec": {**common, **spec}}
