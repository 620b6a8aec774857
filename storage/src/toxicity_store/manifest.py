"""The manifest of an artifact: the object that makes it complete.

`<prefix>/<name>/manifest.json` names the attempt that wrote the artifact, and the size and checksum of each file. The
files are at `<prefix>/<name>/<attempt>/<path>`. The manifest is written last, and only if there is none, so that an
artifact is complete or absent, and files of two attempts never mix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field, ValidationError, field_validator

from toxicity_api.base import Document, read_document

MANIFEST = "manifest.json"


class StoredFile(Document):
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(Document):
    attempt: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")
    files: dict[str, StoredFile] = Field(description="by path relative to the artifact's folder")
    owner: str = Field("", description="UID of the ToxicityModel that made the artifact")

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files.values())

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, StoredFile]) -> dict[str, StoredFile]:
        """A path that leaves the folder would overwrite other files of the pod."""
        for name in files:
            if name.startswith("/") or not name or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r} is not a path inside the artifact")
        return files

    def part(self, parts: Sequence[str]) -> dict[str, StoredFile]:
        """The files below the given files or folders; all files without `parts`."""
        if not parts:
            return self.files
        return {
            name: file
            for name, file in self.files.items()
            if any(name == part or name.startswith(f"{part}/") for part in parts)
        }


def manifest_key(name: str) -> str:
    return f"{name}/{MANIFEST}"


def file_key(name: str, attempt: str, path: str) -> str:
    return f"{name}/{attempt}/{path}"


def parse_manifest(content: bytes) -> Manifest | None:
    """The manifest; None if it is not valid."""
    try:
        return read_document(Manifest, content, MANIFEST)
    except ValidationError:
        return None


def describe_file(path: Path) -> StoredFile:
    """The size and checksum of a local file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(size=file.tell(), sha256=digest)
