"""The texts from an object store and the run's folder to it, if the artifacts are there instead of on a volume."""

from __future__ import annotations

from pathlib import Path

from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.errors import StorageError
from toxicity_store.artifacts import ArtifactStore, open_artifacts
from toxicity_store.errors import StoreError


def open_store(config: LoadTestConfig, secrets: Path) -> ArtifactStore:
    """Open the store and download the texts from it. Raises StorageError."""
    try:
        store = open_artifacts(config.object_store, config.owner, secrets)
        for folder in config.inputs:
            store.fetch(folder.path, folder.parts)
    except StoreError as error:
        raise StorageError(str(error), error.reason, error.exit_code) from error
    return store
