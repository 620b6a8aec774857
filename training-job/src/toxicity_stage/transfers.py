"""What a stage downloads before its work and uploads after it, if its artifacts are in an object store.

The work itself sees folders only. On a volume, the functions here do nothing. With several training processes, the one
that launches the others makes the transfers, in a folder that all of them share.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from toxicity_api.results import StageResult, StorageFigures
from toxicity_api.spec import ObjectStore
from toxicity_api.stage_config import InputFolder, Retention
from toxicity_stage.artifacts import CHECKPOINT_MARK, RESULT_FILE, checkpoints_of, parse_result
from toxicity_stage.ranks import is_started
from toxicity_stage.retention import measure, measure_artifacts, remove_old, remove_old_artifacts
from toxicity_store.artifacts import ArtifactStore, BucketStore, VolumeStore, open_artifacts
from toxicity_store.checkpoints import forget, restore, saving
from toxicity_store.errors import StoreError

RESTORED = "store"

logger = logging.getLogger("toxicity_store")


@dataclass(frozen=True)
class Transfers:
    """The transfers of one stage, whose output folder is `output`. All methods raise StoreError."""

    store: ArtifactStore
    output: Path

    def finished(self) -> StageResult | None:
        """The result of an attempt that has published the stage; None if none has."""
        content = self.store.read(self.output, RESULT_FILE)
        result = None if content is None else parse_result(content)
        return result if result is not None and result.outcome == "succeeded" else None

    def remove_old(self, retention: Retention | None) -> None:
        """Makes room: removes old results of the model."""
        if retention is None:
            return
        if isinstance(self.store, BucketStore):
            remove_old_artifacts(self.store, retention)
        elif not is_started(os.environ):
            remove_old(self.output.parent, retention)

    def measure(self) -> StorageFigures | None:
        """What the model stores; None if the store does not tell."""
        if not isinstance(self.store, BucketStore):
            return measure(self.output.parent)
        try:
            return measure_artifacts(self.store)
        except StoreError as error:  # the stage has succeeded
            logger.warning("store_not_measured error=%s", error)
            return None

    def fetch(self, inputs: Sequence[InputFolder]) -> None:
        """Downloads the inputs, and the newest checkpoint of an earlier attempt."""
        for folder in inputs:
            self.store.fetch(folder.path, folder.parts)
        if isinstance(self.store, BucketStore):
            restore(self.store, self.output.name, self._checkpoints(RESTORED))

    @contextmanager
    def saving_checkpoints(self) -> Iterator[None]:
        """Uploads the checkpoints that the work completes in this block."""
        if not isinstance(self.store, BucketStore):
            yield
            return
        with saving(self.store, self.output.name, self._newest_checkpoint):
            yield

    def publish(self, result: StageResult) -> StageResult:
        """Uploads the output folder; returns the result of the attempt that is published."""
        if not self.store.publish(self.output):
            logger.info("%s was already published by another attempt and is kept", self.output.name)
            return self.finished() or result
        if isinstance(self.store, BucketStore):
            try:
                forget(self.store, self.output.name)
            except StoreError as error:  # the stage has succeeded
                logger.warning("checkpoints_not_removed error=%s", error)
        return result

    def finished_elsewhere(self) -> StageResult | None:
        """The result of another attempt after this one has failed; None if that is unknown too."""
        try:
            return self.finished()
        except StoreError:
            return None

    def _checkpoints(self, tag: str) -> Path:
        return checkpoints_of(self.output, tag)

    def _newest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint that this pod has written."""
        marks = self.output.parent.glob(f"{self._checkpoints('*').name}/checkpoint-*/{CHECKPOINT_MARK}")
        own = [mark.parent for mark in marks if mark.parents[1] != self._checkpoints(RESTORED)]
        return max(own, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def open_transfers(spec: ObjectStore | None, owner: str, output: Path, secrets: Path) -> Transfers:
    """The transfers of this process, for the ToxicityModel with the UID `owner`.

    Raises StoreError if the store does not answer or refuses access.
    """
    if spec is None or is_started(os.environ):
        return Transfers(VolumeStore(), output)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("storage: %(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    return Transfers(open_artifacts(spec, owner, secrets), output)
