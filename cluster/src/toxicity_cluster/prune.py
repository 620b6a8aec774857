"""Frees the cache's disk of what this checkout does not use: `python -m toxicity_cluster prune`, and before a build
that would find too little room.

Everything in the cache is made again when it is missing, so the order is only that of the cost: first what belongs to
other versions of the project, last the compiler's cache. Results of experiments (`runs`) are never touched.
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
from toxicity_cluster.packages import GIB, MIN_FREE_DISK_BYTES, check_machine, free_bytes
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_cluster.toolchain import toolchain_version


@dataclass(frozen=True)
class Step:
    """One kind of thing to remove; `remove` returns how many of them it removed."""

    name: str
    remove: Callable[[Settings], int]


def ensure_machine(settings: Settings, progress: Progress) -> None:
    """Makes room where there is too little, then raises Refusal for the first thing that this machine lacks."""
    make_room(settings, progress)
    check_machine(settings)


def make_room(settings: Settings, progress: Progress) -> None:
    """Prune, step by step, until a build has the room that it needs; does nothing when there is enough."""
    for step in STEPS:
        if free_bytes(settings.cache) >= MIN_FREE_DISK_BYTES:
            return
        _act(step, settings, progress)


def prune(settings: Settings, progress: Progress) -> None:
    """Every step, whatever is free."""
    for step in STEPS:
        _act(step, settings, progress)
    progress.say(f"{free_bytes(settings.cache) / GIB:.1f} GiB are free under {settings.cache}")


def _act(step: Step, settings: Settings, progress: Progress) -> None:
    before = free_bytes(settings.cache)
    removed = step.remove(settings)
    freed = max(0, free_bytes(settings.cache) - before)
    progress.say(f"removed {removed} {step.name}: {freed / GIB:.1f} GiB")


def current_references(settings: Settings) -> set[str]:
    """The images that this checkout is made of, and those that were built last."""
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
    """Those of `present` that are ours (a name of somebody else's image is never removed) and not current."""
    return sorted(name for name in present if name.startswith(NAME_PREFIX) and name not in current)


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*")) if path.is_dir() and not path.is_symlink())


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
    return len(unused)


def _remove_node_images(settings: Settings) -> int:
    """Those that no container of the node runs; containerd then drops their layers by itself."""
    if not containerd.is_answering(settings):
        return 0
    kept = current_references(settings) | containerd.used_images(settings)
    unused = unused_images(containerd.list_images(settings), kept)
    if unused:
        containerd.ctr(settings, "images", "rm", "--sync", *unused, timeout_seconds=300.0)
    return len(unused)


def _remove_compiler_cache(settings: Settings) -> int:
    folder = settings.cache / "gobuild"
    return _remove_folders([folder] if folder.exists() else [])


STEPS = (
    Step("unused environments", _remove_environments),
    Step("unused programs", _remove_programs),
    Step("unused images of the builder", _remove_built_images),
    Step("unused images of the node", _remove_node_images),
    Step("compiler caches (a changed program then compiles from nothing)", _remove_compiler_cache),
)
