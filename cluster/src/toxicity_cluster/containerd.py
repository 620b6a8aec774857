"""The node's images and containers, by way of containerd's client `ctr`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError, CommandFailed
from toxicity_cluster.settings import Settings

CONTENT = Path("io.containerd.content.v1.content/blobs/sha256")
BUILDAH_RUNROOT = "/run/toxicity-images"
LAYOUT = "loading"
"""Folder in the cache for the image that is being copied to the node."""
VERDICT_SECONDS = 60.0
REMOVAL_SECONDS = 60.0
POLL_SECONDS = 0.1


def ctr(settings: Settings, *arguments: str, timeout_seconds: float = 60.0) -> str:
    return run([*_ctr(settings), *arguments], timeout_seconds=timeout_seconds)


def is_answering(settings: Settings, timeout_seconds: float = 5.0) -> bool:
    """Whether containerd answers in time. A caller that does not poll should allow VERDICT_SECONDS."""
    if not settings.containerd_socket.exists():
        return False
    try:
        ctr(settings, "version", timeout_seconds=timeout_seconds)
    except CommandFailed:
        return False
    return True


def list_images(settings: Settings) -> set[str]:
    """The names of the images in the node."""
    return {name for name in ctr(settings, "images", "ls", "-q").splitlines() if not name.startswith("sha256:")}


def used_images(settings: Settings) -> set[str]:
    """The names of the images that containers use."""
    rows = (line.split() for line in ctr(settings, "containers", "ls").splitlines()[1:])
    return {row[1] for row in rows if len(row) > 1}


def load(settings: Settings, image: str) -> None:
    """Import an image into the node: the path of an OCI archive, or the name of an image in the buildah store.

    Does nothing if the node has the name already. The tag is a hash of the content, so the name suffices.
    """
    if not is_answering(settings, VERDICT_SECONDS):
        raise ClusterError("The cluster is not up, so it cannot take images: run `python -m toxicity_cluster up`.")
    if Path(image).is_file():
        run([*_ctr(settings), "images", "import", str(Path(image).absolute())])
        return
    if image in list_images(settings):
        return
    with empty_layout(settings) as layout:
        linked = link_blobs([root / CONTENT for root in settings.containerd_roots], layout / "blobs" / "sha256")
        # skopeo, because `buildah push` always compresses for this transport
        store = f"containers-storage:[overlay@{settings.containers}+{BUILDAH_RUNROOT}]{image}"
        run(["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", store, f"oci:{layout}:{image}"])
        _import_layout(settings, layout, linked & blobs_of(settings.containerd_root / CONTENT))


@contextlib.contextmanager
def empty_layout(settings: Settings) -> Iterator[Path]:
    """A folder for the OCI layout of one image; one process loads at a time."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / f"{LAYOUT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        layout = settings.cache / LAYOUT
        shutil.rmtree(layout, ignore_errors=True)  # of a process that was killed
        layout.mkdir()
        try:
            yield layout
        finally:
            shutil.rmtree(layout)


def remove_unfinished_load(settings: Settings) -> bool:
    """Remove the layout of a process that was killed. Its links keep the blobs of removed images on the disk."""
    layout = settings.cache / LAYOUT
    if not layout.exists():
        return False
    with (settings.cache / f"{LAYOUT}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(layout)
    return True


def buildah(settings: Settings) -> list[str]:
    """The buildah command with the project's own store, independent of the machine's configuration."""
    store = ("--root", str(settings.containers), "--runroot", BUILDAH_RUNROOT, "--storage-driver", "overlay")
    return ["buildah", *store]


def link_blobs(contents: Sequence[Path], blobs: Path) -> set[str]:
    """Link the blobs of these content stores into a new OCI layout and return their names.

    The copy then skips every layer that a node has, and does not pack and hash gigabytes again. containerd collects
    unused blobs at any moment, so a blob can disappear before it is linked.
    """
    blobs.mkdir(parents=True)
    linked: set[str] = set()
    for content in contents:
        for name in blobs_of(content) - linked:
            with contextlib.suppress(FileNotFoundError):
                (blobs / name).hardlink_to(content / name)
                linked.add(name)
    return linked


def blobs_of(content: Path) -> set[str]:
    """The names of the blobs that the node has now."""
    return {path.name for path in content.glob("*") if path.is_file()}


def layout_files(layout: Path, known: Collection[str]) -> list[Path]:
    """The files of the image in an OCI layout, without the blobs `known`, which the node has.

    The layout also has blobs of other images, which the nodes had.
    """
    blobs = _image_blobs(layout, layout / "index.json") - set(known)
    return sorted(
        path for path in layout.rglob("*") if path.is_file() and (path.parent == layout or path.name in blobs)
    )


def _image_blobs(layout: Path, document: Path) -> set[str]:
    """The names of all blobs that an index or a manifest refers to."""
    content = json.loads(document.read_bytes())
    manifests = _names(content.get("manifests", []))
    found = (
        manifests | _names(content.get("layers", [])) | _names([content["config"]] if "config" in content else [])
    )
    return found.union(*(_image_blobs(layout, layout / "blobs" / "sha256" / name) for name in manifests))


def _names(descriptors: Iterable[Mapping[str, str]]) -> set[str]:
    return {descriptor["digest"].removeprefix("sha256:") for descriptor in descriptors}


def containers_of(settings: Settings, namespace: str | None = None) -> list[str]:
    """The ids of all containers, running or not; with `namespace`, only those of its pods."""
    of_namespace = [f'labels."io.kubernetes.pod.namespace"=={namespace}'] if namespace else []
    return ctr(settings, "containers", "ls", "-q", *of_namespace).split()


def remove_containers(settings: Settings, containers: Collection[str]) -> None:
    """Kill and remove these containers: the next `up` uses the same store.

    containerd's CRI plugin also removes a task when it is dead, so either side can fail on a task that the other has
    removed. Only the result counts. Raises ClusterError if no container disappears for REMOVAL_SECONDS.
    """
    before, deadline = len(containers) + 1, 0.0
    while left := sorted(set(containers).intersection(containers_of(settings))):
        if len(left) < before:
            before, deadline = len(left), time.monotonic() + REMOVAL_SECONDS
        tasks = set(left).intersection(ctr(settings, "tasks", "ls", "-q").split())
        complaints = [
            *_complaints(settings, ("tasks", "delete", "--force"), sorted(tasks)),
            *_complaints(settings, ("containers", "delete"), left),
        ]
        if complaints:
            if time.monotonic() > deadline:
                raise ClusterError(f"Of {len(left)} containers some cannot be removed: {' '.join(complaints)}")
            time.sleep(POLL_SECONDS)


def _import_layout(settings: Settings, layout: Path, known: Collection[str]) -> None:
    """Stream the layout into `ctr`, without the blobs `known`."""
    argv = [*_ctr(settings), "images", "import", "-"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as importer:
        if importer.stdin is None or importer.stdout is None:
            raise AssertionError("the importer was started with pipes")
        try:
            with tarfile.open(fileobj=importer.stdin, mode="w|") as stream:
                for path in layout_files(layout, known):
                    stream.add(path, arcname=str(path.relative_to(layout)), recursive=False)
            importer.stdin.close()
            said = importer.stdout.read().decode(errors="replace")
        except BrokenPipeError:
            said = importer.stdout.read().decode(errors="replace")
    if importer.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)} exited with {importer.returncode}: {said.strip()[-1000:]}")


def _ctr(settings: Settings) -> list[str]:
    return ["ctr", "--address", str(settings.containerd_socket), "--namespace", "k8s.io"]


def _complaints(settings: Settings, command: tuple[str, ...], targets: list[str]) -> list[str]:
    """The errors of `ctr` for these targets; it continues with the others after a failure."""
    try:
        if targets:
            ctr(settings, *command, *targets)
    except CommandFailed as error:
        return [str(error)]
    return []
