"""What pods need for artifacts in an object store: the mounted Secrets, and the downloads of the serving pods."""

from __future__ import annotations

from toxicity_api.spec import ObjectStore
from toxicity_api.stage_config import COMPILED_FILE, FetchConfig, InputFolder
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


def download_containers(model: Model, chain: Chain, image: str) -> list[Manifest]:
    """The init container that downloads what the server reads, and the sidecar that adds later load tests."""
    store = model.spec.storage.object_store
    if store is None:
        return []
    config = FetchConfig(object_store=store, inputs=_inputs(chain), watched_parts=LOAD_TEST_REPORT)
    _, artifacts = artifacts_volume(model, read_only=False)
    _, secrets = secret_volumes(store)
    serving = model.spec.serving.model_copy(update={"gpus": 0})

    def build(name: str, command: str, **fields: Manifest | str) -> Manifest:
        return container(
            name,
            image,
            command=["python", "-m", "toxicity_store", command],
            env=env(stage_env(config, serving)),
            volumeMounts=[artifacts, *secrets, {"name": "tmp", "mountPath": "/tmp"}],
            **fields,
        )

    return [
        build(DOWNLOAD, "fetch", resources=resources(serving)),
        build(WATCH, "watch", resources=WATCH_RESOURCES, restartPolicy="Always"),
    ]


def _inputs(chain: Chain) -> list[InputFolder]:
    """The model, the compiled code, and the report of each stage."""
    stages = [stage for stage in (chain.train, chain.quantize, chain.evaluate) if stage]
    needed = {chain.model_stage.component: ["model"], chain.evaluate.component: [COMPILED_FILE]}
    return [
        InputFolder(path=stage_folder(stage), parts=[*needed.get(stage.component, []), *REPORT])
        for stage in stages
    ]
