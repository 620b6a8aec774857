"""Removes from the cache what this checkout does not use: `python -m toxicity_cluster prune`.

`up` and `demo` do so too when the disk has less free space than a build needs. A later build creates again what is
missing, so the order follows the cost: first files of other versions, last the compiler's cache. Results of experiments
(`runs`) are never removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster import containerd
from toxicity_cluster.build import EVERY_PROGRAM, program_folder
from toxicity_cluster.commands import run
from toxicity_cluster.environments import PARTS, base_model_folder, environment_folder
from toxicity_cluster.images import SAMPLE_DATASET, list_references, plan_recipes
from toxicity_cluster.images_base import CPU_INDEX
from toxicity_cluster.images_parts import NAME_PREFIX
from toxicity_cluster.node_image import REPOSITORY
from toxicity_cluster.packages import GIB, MIN_FREE_DISK_BYTES, check_machine, free_bytes
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_cluster.toolchain import toolchain_version


@dataclass(frozen=True)
class Step:
    """One kind of file to remove; `remove` returns the number of removed items."""

    name: str
    remove: Callable[[Settings], int]


def ensure_machine(settings: Settings, progress: Progress) -> None:
    """Free disk space if needed, then raise Refusal for the first requirement that this machine does not meet."""
    make_room(settings, progress)
    check_machine(settings)


def make_room(settings: Settings, progress: Progress) -> None:
    """Run the steps one by one until a build has enough disk space."""
    for step in STEPS:
        if free_bytes(settings.cache) >= MIN_FREE_DISK_BYTES:
            return
        _act(step, settings, progress)


def prune(settings: Settings, progress: Progress) -> None:
    """Run every step, independent of the free space."""
    for step in STEPS:
        _act(step, settings, progress)
    progress.say(f"{free_bytes(settings.cache) / GIB:.1f} GiB are free under {settings.cache}")


def _act(step: Step, settings: Settings, progress: Progress) -> None:
    before = free_bytes(settings.cache)
    removed = step.remove(settings)
    freed = max(0, free_bytes(settings.cache) - before)
    progress.say(f"removed {removed} {step.name}: {freed / GIB:.1f} GiB")


def current_references(settings: Settings) -> set[str]:
    """The images of this checkout, and those that were built last."""
    root, recorded = settings.sources.parent, settings.cache / "images.json"
    recipes = plan_recipes(root, [], root / SAMPLE_DATASET, CPU_INDEX, "buildah")
    built = json.loads(recorded.read_text()).values() if recorded.exists() else []
    return {recipe.reference for recipe in recipes}.union(built)


def unused_environments(settings: Settings) -> list[Path]:
    """Virtual environments of other locks and copies of other base models."""
    current = {environment_folder(settings, part, cuda=cuda) for part in PARTS for cuda in (False, True)}
    current |= {base_model_folder(settings, reference) for reference in current_references(settings)}
    return [folder for folder in _folders(settings.cache / "environments") if folder not in current]


def unused_programs(settings: Settings) -> list[Path]:
    """Binaries of other module versions."""
    version = toolchain_version()
    current = {program_folder(settings, program, version) for program in EVERY_PROGRAM}
    return [folder for folder in _folders(settings.cache / "bin") if folder not in current]


def unused_images(present: Collection[str], current: Collection[str]) -> list[str]:
    """The images in `present` with the project's prefix that are not current; others are never removed.

    Nor is the image of the node's pause container: every pod needs it, and no registry has it.
    """
    own = {name for name in present if name.startswith(NAME_PREFIX) and not name.startswith(f"{REPOSITORY}:")}
    return sorted(own.difference(current))


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*")) if path.is_dir() and not path.is_symlink())


def _remove_unfinished_load(settings: Settings) -> int:
    return int(containerd.remove_unfinished_load(settings))


def _remove_environments(settings: Settings) -> int:
    return _remove_folders(unused_environments(settings))


def _remove_programs(settings: Settings) -> int:
    return _remove_folders(unused_programs(settings))


def _remove_folders(folders: Collection[Path]) -> int:
    for folder in folders:
        shutil.rmtree(folder)
    return len(folders)


def _remove_built_images(settings: Settings) -> int:
    if not settings.containers.exists():
        return 0
    unused = unused_images(list_references(settings, "buildah"), current_references(settings))
    if unused:
        run([*containerd.buildah(settings), "rmi", "--force", *unused])
    # layers of builds that failed or were interrupted, on which no image stands
    dangling = run([*containerd.buildah(settings), "rmi", "--prune"]).split()
    return len(unused) + len(dangling)


def _remove_node_images(settings: Settings) -> int:
    """Remove the images of every node that no container uses; containerd then collects their layers."""
    return sum(_remove_images_of(node) for node in settings.nodes if containerd.is_answering(node))


def _remove_images_of(settings: Settings) -> int:
    kept = current_references(settings) | containerd.used_images(settings)
    unused = unused_images(containerd.list_images(settings), kept)
    if unused:
        containerd.ctr(settings, "images", "rm", "--sync", *unused, timeout_seconds=300.0)
    return len(unused)


def _remove_second_store(settings: Settings) -> int:
    """Remove the images of a second node that does not exist now; the first node still has them."""
    node = settings.second_node
    return _remove_folders(
        [node.containerd_root] if node.containerd_root.exists() and not node.state.exists() else []
    )


def _remove_compiler_cache(settings: Settings) -> int:
    folder = settings.cache / "gobuild"
    return _remove_folders([folder] if folder.exists() else [])


STEPS = (
    Step("unfinished copies of an image", _remove_unfinished_load),
    Step("unused environments", _remove_environments),
    Step("unused programs", _remove_programs),
    Step("unused images of the builder", _remove_built_images),
    Step("unused images of the node", _remove_node_images),
    Step("image stores of a second node (it takes the images from the first one again)", _remove_second_store),
    Step("compiler caches (the next change of a program compiles everything)", _remove_compiler_cache),
)
