"""containerd through its `ctr`: what images the node has, loading more of them, and removing every container."""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError, CommandFailed
from toxicity_cluster.settings import Settings

CONTENT = Path("io.containerd.content.v1.content/blobs/sha256")
BUILDAH_RUNROOT = "/run/toxicity-images"
VERDICT_SECONDS = 60.0
REMOVAL_SECONDS = 60.0
POLL_SECONDS = 0.1


def ctr(settings: Settings, *arguments: str, timeout_seconds: float = 60.0) -> str:
    return run([*_ctr(settings), *arguments], timeout_seconds=timeout_seconds)


def is_answering(settings: Settings, timeout_seconds: float = 5.0) -> bool:
    """Whether it answers in time; who does not ask again gives it longer than who polls."""
    if not settings.containerd_socket.exists():
        return False
    try:
        ctr(settings, "version", timeout_seconds=timeout_seconds)
    except CommandFailed:
        return False
    return True


def list_images(settings: Settings) -> set[str]:
    """The names of the images that pods may use."""
    return {name for name in ctr(settings, "images", "ls", "-q").splitlines() if not name.startswith("sha256:")}


def used_images(settings: Settings) -> set[str]:
    """The names of the images that a container was made from."""
    rows = (line.split() for line in ctr(settings, "containers", "ls").splitlines()[1:])
    return {row[1] for row in rows if len(row) > 1}


def load(settings: Settings, image: str) -> bool:
    """Bring an image into the node: the path of an OCI archive, or the name of an image in our buildah store.

    Returns False when a built image is there already; its tag is the hash of its content, so the name is enough.
    """
    if not is_answering(settings, VERDICT_SECONDS):
        raise ClusterError("The cluster is not up, so it cannot take images: run `python -m toxicity_cluster up`.")
    if Path(image).is_file():
        run([*_ctr(settings), "images", "import", str(Path(image).absolute())])
        return True
    if image in list_images(settings):
        return False
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="load-", dir=settings.cache) as folder:
        layout = Path(folder)
        content = settings.containerd_root / CONTENT
        linked = link_blobs(content, layout / "blobs" / "sha256")
        # skopeo, because `buildah push` compresses for this transport whatever it is told.
        store = f"containers-storage:[overlay@{settings.containers}+{BUILDAH_RUNROOT}]{image}"
        run(["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", store, f"oci:{layout}:{image}"])
        _import_layout(settings, layout, linked & blobs_of(content))
    return True


def buildah(settings: Settings) -> list[str]:
    """buildah on our own store, whatever the machine's own configuration says."""
    store = ("--root", str(settings.containers), "--runroot", BUILDAH_RUNROOT, "--storage-driver", "overlay")
    return ["buildah", *store]


def link_blobs(content: Path, blobs: Path) -> set[str]:
    """Link the node's blobs into a new layout and return their names.

    Copying then skips every layer that the node has, rather than packing and hashing gigabytes for nothing. The node
    removes what no image of its needs any more at any moment, so a blob may be gone when it is its turn.
    """
    blobs.mkdir(parents=True)
    linked = set()
    for name in blobs_of(content):
        with contextlib.suppress(FileNotFoundError):
            (blobs / name).hardlink_to(content / name)
            linked.add(name)
    return linked


def blobs_of(content: Path) -> set[str]:
    """Names of the blobs that the node has at this moment."""
    return {path.name for path in content.glob("*") if path.is_file()}


def layout_files(layout: Path, known: Collection[str]) -> list[Path]:
    """The files of an OCI layout that a node must be sent which already has the blobs `known`."""
    return sorted(path for path in layout.rglob("*") if path.is_file() and path.name not in known)


def containers_of(settings: Settings, namespace: str | None = None) -> list[str]:
    """The ids of all containers, running or not; with `namespace` those of its pods alone."""
    of_namespace = [f'labels."io.kubernetes.pod.namespace"=={namespace}'] if namespace else []
    return ctr(settings, "containers", "ls", "-q", *of_namespace).split()


def remove_containers(settings: Settings, containers: Collection[str]) -> None:
    """Kill and remove these containers, so that nothing of a pod remains in the store that the next `up` reuses.

    containerd's own CRI plugin removes a task too as soon as it is dead, so whatever either of them does may fail
    half-way on what the other did: what counts is that nothing is left. Raises ClusterError when something stays
    and a minute passes in which none goes.
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
    """Stream the layout into `ctr`: a layer shared with an image that is there already does not travel again."""
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
    """What `ctr` says against doing this to all of them; it goes on with the others after one that fails."""
    try:
        if targets:
            ctr(settings, *command, *targets)
    except CommandFailed as error:
        return [str(error)]
    return []
