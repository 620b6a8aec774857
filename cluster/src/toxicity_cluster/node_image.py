"""Writes the node's image without an image tool: one static program, as `/pause` and as `/volume`."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

REPOSITORY = "localhost/toxicity-node"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def node_image_name(program: bytes) -> str:
    """The image's name; the tag is a hash of the program."""
    return f"{REPOSITORY}:{hashlib.sha256(program).hexdigest()[:12]}"


def write_node_image(program: bytes, archive: Path) -> None:
    """Write the image as an OCI archive."""
    layer = _tar({"pause": program, "volume": program}, mode=0o755)
    config = _document(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _document(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, layer)],
        }
    )
    reference = {"org.opencontainers.image.ref.name": node_image_name(program)}
    index = {"schemaVersion": 2, "manifests": [{**_descriptor(MANIFEST_TYPE, manifest), "annotations": reference}]}
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config, manifest)}
    archive.write_bytes(
        _tar({"oci-layout": _document({"imageLayoutVersion": "1.0.0"}), "index.json": _document(index), **blobs})
    )


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _document(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    """A reproducible tar: no times and no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
