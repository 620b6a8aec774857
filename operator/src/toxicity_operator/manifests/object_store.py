"""What pods need for artifacts in an object store: the mounted Secrets, and the downloads of the serving pods."""

from __future__ import annotations

from pathlib import Path

from toxicity_api.spec import NodeCache, ObjectStore
from toxicity_api.stage_config import COMPILED_FILE, CacheFolder, FetchConfig, InputFolder
from toxicity_operator.chain import Chain
from toxicity_operator.manifests.common import (
    Manifest,
    artifacts_volume,
    container,
    env,
    resources,
    stage_env,
    stage_folder,
)
from toxicity_operator.model import Model

SECRETS = "/etc/object-store"
CREDENTIALS, AUTHORITY = "store-credentials", "store-ca"
DOWNLOAD, WATCH = "download", "load-tests"
"""Names of the containers that download for the server, and of the volumes with the Secrets."""

CACHE, CACHE_FOLDER = "node-cache", "/node-cache"
"""Name of the volume with the cache on the node, and where the container that downloads mounts it."""

REPORT = ["result.json", "eda", "evaluation"]
LOAD_TEST_REPORT = ["status.json", "p95.png", "rps.png"]
WATCH_RESOURCES = {
    "requests": {"cpu": "10m", "memory": "96Mi"},
    "limits": {"cpu": "200m", "memory": "256Mi"},
}


def artifact_owner(model: Model) -> str:
    """What a stage records with its artifacts: the UID in a store, which others may use; nothing on a volume."""
    return model.identity.uid if model.spec.storage.object_store else ""


def secret_volumes(store: ObjectStore | None) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and mounts of the Secrets that a container with access to the store needs; empty on a volume."""
    volumes: list[Manifest] = []
    mounts: list[Manifest] = []
    secrets = (
        ((CREDENTIALS, "credentials", store.secret_name), (AUTHORITY, "ca", store.ca_secret_name)) if store else ()
    )
    for name, folder, secret in secrets:
        if secret:
            # files, not variables: child processes and /proc/PID/environ do not have them
            volumes.append({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}})
            mounts.append({"name": name, "mountPath": f"{SECRETS}/{folder}", "readOnly": True})
    return volumes, mounts


def node_cache_volumes(cache: NodeCache | None) -> tuple[list[Manifest], list[Manifest]]:
    """Volume and mount of the cache on the node; empty without one."""
    if cache is None:
        return [], []
    volume = {"name": CACHE, "persistentVolumeClaim": {"claimName": cache.claim_name}}
    return [volume], [{"name": CACHE, "mountPath": CACHE_FOLDER}]


def download_containers(model: Model, chain: Chain, image: str) -> list[Manifest]:
    """The init container that downloads what the server reads, and the sidecar that adds later load tests."""
    store, cache = model.spec.storage.object_store, model.spec.storage.node_cache
    if store is None:
        return []
    watched = FetchConfig(object_store=store, inputs=_inputs(chain), watched_parts=LOAD_TEST_REPORT)
    folder = CacheFolder(path=Path(CACHE_FOLDER), size_bytes=cache.size_bytes) if cache else None
    _, artifacts = artifacts_volume(model, read_only=False)
    _, secrets = secret_volumes(store)
    _, cached = node_cache_volumes(cache)
    serving = model.spec.serving.model_copy(update={"gpus": 0})

    def build(
        name: str, command: str, config: FetchConfig, *mounts: Manifest, **fields: Manifest | str
    ) -> Manifest:
        return container(
            name,
            image,
            command=["python", "-m", "toxicity_store", command],
            env=env(stage_env(config, serving)),
            volumeMounts=[artifacts, *mounts, *secrets, {"name": "tmp", "mountPath": "/tmp"}],
            **fields,
        )

    fetched = watched.model_copy(update={"cache": folder})
    return [
        build(DOWNLOAD, "fetch", fetched, *cached, resources=resources(serving)),
        build(WATCH, "watch", watched, resources=WATCH_RESOURCES, restartPolicy="Always"),
    ]


def _inputs(chain: Chain) -> list[InputFolder]:
    """The model, the compiled code, and the report of each stage."""
    stages = [stage for stage in (chain.train, chain.quantize, chain.evaluate) if stage]
    needed = {chain.model_stage.component: ["model"], chain.evaluate.component: [COMPILED_FILE]}
    return [
        InputFolder(path=stage_folder(stage), parts=[*needed.get(stage.component, []), *REPORT])
        for stage in stages
    ]
