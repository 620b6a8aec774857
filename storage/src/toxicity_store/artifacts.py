"""Where the stages' folders are kept: on the volume that the pods share, or in an object store.

A stage works in a local folder in both cases. On the volume that folder is the artifact. With an object store the
folder is scratch space: `fetch` downloads the inputs to it, and `publish` uploads the finished folder.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from toxicity_api.spec import ObjectStore
from toxicity_store.cache import FileCache
from toxicity_store.client import Client, connect
from toxicity_store.errors import ArtifactDamaged, ArtifactMissing
from toxicity_store.manifest import Manifest, file_key, manifest_key, parse_manifest
from toxicity_store.transfer import download, run_again, upload

CHECKPOINTS = ".checkpoints"
"""End of the name below which the checkpoints of a stage are artifacts of their own."""


class ArtifactStore(Protocol):
    """Artifacts by the name of their folder."""

    def read(self, folder: Path, path: str) -> bytes | None:
        """A small file of the published artifact; None if there is no artifact or no such file."""

    def fetch(self, folder: Path, parts: Sequence[str] = ()) -> None:
        """Make the published artifact available as `folder`, or only these files and folders of it."""

    def publish(self, folder: Path) -> bool:
        """Make a finished folder available to other pods.

        Returns False if another attempt has published an artifact of that name, which is kept.
        """


class VolumeStore:
    """All pods mount one volume, on which a finished folder is published by a rename (`toxicity_api.attempts`)."""

    def read(self, folder: Path, path: str) -> bytes | None:
        try:
            return (folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, folder: Path, parts: Sequence[str] = ()) -> None:
        """Does nothing: the folder is on the volume."""

    def publish(self, folder: Path) -> bool:
        return True


@dataclass(frozen=True)
class Owned:
    """An artifact of this resource."""

    published_at: float
    """seconds since 1970"""
    size_bytes: int


@dataclass(frozen=True)
class BucketStore:
    """Artifacts below a prefix of a bucket. All methods raise StoreError."""

    client: Client
    owner: str = ""
    """UID of the ToxicityModel, recorded with what it publishes; empty for a reader"""
    cache: FileCache | None = None
    """the cache on the node, through which `fetch` downloads; None without one"""

    def check(self) -> None:
        """Raises StoreError if the bucket cannot be listed, before a stage works for hours."""
        self.client.list_names()

    def read(self, folder: Path, path: str) -> bytes | None:
        manifest = self.manifest(folder.name)
        if manifest is None or path not in manifest.files:
            return None
        return self.client.read(file_key(folder.name, manifest.attempt, path))

    def fetch(self, folder: Path, parts: Sequence[str] = ()) -> None:
        """Downloads to a folder beside `folder` and renames it. An interrupted download continues there."""
        self.fetch_as(folder.name, folder, parts)

    def fetch_as(self, name: str, folder: Path, parts: Sequence[str] = ()) -> None:
        """Downloads the artifact `name` as `folder`, unless that exists. Raises StoreError."""
        if folder.is_dir():
            return
        manifest = self.manifest(name)
        if manifest is None:
            raise ArtifactMissing(
                "ArtifactMissing", f"{self.client.spec.url}/{name} is not in the store; {run_again(name)}"
            )
        partial = folder.with_name(f"{folder.name}.partial-{manifest.attempt}")
        partial.mkdir(parents=True, exist_ok=True)
        download(self.client, name, manifest.attempt, manifest.part(parts), partial, self.cache)
        os.rename(partial, folder)

    def publish(self, folder: Path) -> bool:
        return self.publish_as(folder.name, folder)

    def publish_as(self, name: str, folder: Path) -> bool:
        """Uploads `folder` as the artifact `name`, unless another attempt has published one."""
        if self.manifest(name) is not None:
            return False
        attempt = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        manifest = Manifest(attempt=attempt, files=upload(self.client, folder, name, attempt), owner=self.owner)
        content = manifest.model_dump_json(by_alias=True, indent=1).encode()
        if not self.client.create(manifest_key(name), content):
            published = self.manifest(name)
            # a retry of the write can find the manifest that it has already written
            if published is None or published.attempt != attempt:
                self._remove_below(f"{name}/{attempt}")
                return False
        self._remove_other_attempts(name, attempt)
        return True

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of a complete artifact; None if there is none. Raises StoreError if it is damaged."""
        content = self.client.read(manifest_key(name))
        if content is None:
            return None
        manifest = parse_manifest(content)
        if manifest is None:
            place = f"{self.client.spec.url}/{manifest_key(name)}"
            raise ArtifactDamaged("ArtifactDamaged", f"{place} is not a manifest; {run_again(name)}")
        return manifest

    def published_at(self, name: str) -> float | None:
        """When the artifact was published, in seconds since 1970; None if there is none."""
        return self.client.modified_at(manifest_key(name))

    def owned(self) -> dict[str, Owned]:
        """The complete artifacts that this resource has published, by name, with its checkpoints.

        Others may use the prefix, too. What has no manifest, or a damaged one, belongs to nobody that can be named.
        """
        found: dict[str, Owned] = {}
        if not self.owner:
            return found
        for name in self._artifact_names():
            content = self.client.read(manifest_key(name))
            manifest = None if content is None else parse_manifest(content)
            if manifest is None or manifest.owner != self.owner:
                continue
            published_at = self.published_at(name)
            if published_at is not None:
                found[name] = Owned(published_at, manifest.size_bytes)
        return found

    def _artifact_names(self) -> Iterator[str]:
        for name in self.client.list_names():
            if name.endswith(CHECKPOINTS):
                yield from (f"{name}/{checkpoint}" for checkpoint in self.client.list_names(name))
            else:
                yield name

    def remove(self, name: str) -> None:
        """Removes an artifact: first its manifest, so that no reader begins to read it."""
        self.client.remove([manifest_key(name)])
        self._remove_below(name)

    def _remove_other_attempts(self, name: str, attempt: str) -> None:
        """Removes what attempts that were killed have uploaded. One that still runs cannot publish any more."""
        for other in self.client.list_names(name):
            if other != attempt:
                self._remove_below(f"{name}/{other}")

    def _remove_below(self, prefix: str) -> None:
        self.client.remove(self.client.list_keys(prefix))


def open_artifacts(spec: ObjectStore | None, owner: str, secrets_folder: Path) -> ArtifactStore:
    """The store of the spec, which has answered; without a spec, the volume. Raises StoreError."""
    if spec is None:
        return VolumeStore()
    store = BucketStore(connect(spec, secrets_folder), owner)
    store.check()
    return store
