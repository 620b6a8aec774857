"""The node's image: an OCI archive with valid digests that is reproducible."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from toxicity_cluster.node_image import node_image_name, write_node_image

PROGRAM = b"\x7fELF and more"


def read_archive(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        return {name: stream.read() for name, stream in members.items() if stream}


def test_archive_resolves_from_the_index_to_the_program(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    write_node_image(PROGRAM, archive)
    files = read_archive(archive.read_bytes())
    entry = json.loads(files["index.json"])["manifests"][0]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == node_image_name(PROGRAM)

    def blob(descriptor: dict[str, str]) -> bytes:
        content = files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
        assert "sha256:" + hashlib.sha256(content).hexdigest() == descriptor["digest"]
        return content

    manifest = json.loads(blob(entry))
    layer = blob(manifest["layers"][0])
    assert json.loads(blob(manifest["config"]))["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert read_archive(layer) == {"pause": PROGRAM, "volume": PROGRAM}


def test_archive_is_reproducible_and_its_name_follows_the_program(tmp_path: Path) -> None:
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    write_node_image(PROGRAM, first)
    write_node_image(PROGRAM, second)
    assert first.read_bytes() == second.read_bytes()
    assert node_image_name(PROGRAM) != node_image_name(PROGRAM + b"!")
