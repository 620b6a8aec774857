"""Builds the missing container images without a registry: `python -m toxicity_cluster images [NAME...]`.

`images_parts` says what an image contains, and `images_base` what a build takes from this machine. This module orders
the builds and runs them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.engines import ENGINES, engine_command, list_format
from toxicity_cluster.errors import Refusal
from toxicity_cluster.images_bake import PUBLIC_PYTHON, labels_of_build
from toxicity_cluster.images_base import (
    TorchSource,
    build_volumes,
    choose_torch,
    proxy_arguments,
    require_answer,
    rootfs_recipe,
    write_rootfs,
)
from toxicity_cluster.images_parts import REQUIRED, Part, content_tag, list_files, reference, select_parts
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

SAMPLE_DATASET = "manifests/samples/data/comments.csv"
SCRATCH_PREFIX = "images-build-"


@dataclass(frozen=True)
class Recipe:
    """One image to build: its reference, the files of its context and its build arguments."""

    part: Part
    reference: str
    files: Mapping[str, Path]
    arguments: Mapping[str, str]


def build_images(
    settings: Settings,
    progress: Progress,
    names: Sequence[str] = (),
    dataset: Path | None = None,
    engine: str = "buildah",
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Build the named images and their parents unless they exist; return every reference by part.

    Without names, every image that is not optional.

    `dataset` is the CSV file (also gzipped) of the `dataset` image, by default the sample data. Raises ClusterError
    with the end of the output of a build that fails.
    """
    env = os.environ if environment is None else environment
    names = names or REQUIRED
    root = settings.sources.parent
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (
        _one_at_a_time(settings, progress),
        tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=settings.cache) as scratch,
    ):
        source = _snapshot(root, select_parts(names), Path(scratch) / "source")
        data = dataset or root / SAMPLE_DATASET
        present = list_references(settings, engine)
        torch = choose_torch(env)
        recipes = plan_recipes(source, names, data, torch, engine, env.get("PYTHON_IMAGE") or PUBLIC_PYTHON)
        if any(recipe.part.name == "torch" and recipe.reference not in present for recipe in recipes):
            _require_torch(torch, engine)
            progress.say(f"torch comes from {torch.explanation}")
        for recipe in recipes:
            if recipe.reference in present:
                progress.say(f"image {recipe.part.name}: {recipe.reference} exists")
                continue
            with progress.step(
                f"building image {recipe.part.name} (about {recipe.part.minutes} from an empty cache)"
            ):
                volumes = build_volumes(settings, env, Path(scratch), torch)
                context = Path(scratch) / recipe.part.name
                _build(recipe, context, build_command(settings, recipe, torch, volumes, context, engine, env))
            progress.say(
                f"image {recipe.part.name}: {recipe.reference}, {_size(settings, recipe.reference, engine)}"
            )
    references = {recipe.part.name: recipe.reference for recipe in recipes}
    _record(settings.cache / "images.json", references)
    return references


def _require_torch(torch: TorchSource, engine: str) -> None:
    """Raise Refusal if a build with this engine cannot get torch from this source."""
    if torch.wheels and not ENGINES[engine].mounts:
        raise Refusal(
            f"{engine} cannot mount a folder with wheels into a build: set TORCH_SOURCE to `cuda` or the URL of an"
            " index."
        )
    require_answer(torch)


def _snapshot(root: Path, parts: Sequence[Part], target: Path) -> Path:
    """Copy the sources of the builds, so that an edit during a build cannot get the tag of the old content."""
    for part in parts:
        _copy_files(list_files(root, part.paths), target)
    return target


def _copy_files(files: Mapping[str, Path], target: Path) -> None:
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def plan_recipes(
    root: Path,
    names: Sequence[str],
    dataset: Path,
    torch: TorchSource,
    engine: str,
    python_image: str = PUBLIC_PYTHON,
) -> list[Recipe]:
    """The images that `names` need, parents first, each with the reference for its content.

    `python_image` takes the place of the base image if the engine does not make one.
    """
    recipes: dict[str, Recipe] = {}
    for part in select_parts(names):
        if part.name == "base" and not ENGINES[engine].makes_base:
            continue
        files = list_files(root, part.paths)
        if part.name == "dataset":
            suffix = ".csv.gz" if dataset.name.endswith(".gz") else ".csv"
            files[f"dataset/comments{suffix}"] = dataset
        parents = {
            name: recipes[parent].reference if parent in recipes else python_image
            for name, parent in part.parents.items()
        }
        arguments = parents | _own_arguments(part, torch, parents)
        tag = content_tag(files, arguments | (rootfs_recipe() if part.name == "base" else {}))
        recipes[part.name] = Recipe(part, reference(part, tag), files, arguments)
    return list(recipes.values())


def _own_arguments(part: Part, torch: TorchSource, parents: Mapping[str, str]) -> dict[str, str]:
    """The build arguments besides the parents. The tag excludes the source of torch: wheel and index are the same."""
    if part.name == "torch":
        return {"TORCH_BUILD": torch.build}
    if part.name == "serving" and torch.build == "cuda":
        return {"ENGINE": "cuda", "TORCH_IMAGE": parents["PYTHON_IMAGE"]}
    return {}


def build_command(
    settings: Settings,
    recipe: Recipe,
    torch: TorchSource,
    volumes: Sequence[str],
    context: Path,
    engine: str,
    environment: Mapping[str, str],
) -> list[str]:
    """The command that builds `recipe` from `context`.

    Labels are no part of the tag: another commit of the same sources is the same image.
    """
    arguments = dict(recipe.arguments)
    if "TORCH_BUILD" in arguments:
        del arguments["TORCH_BUILD"]
        arguments["TORCH_SOURCE"] = torch.argument
    argv = [*engine_command(settings, engine), "build"]
    argv += [] if engine == "docker" else ["--layers", "--force-rm"]
    argv += ["--network", "host", "--file", str(context / recipe.part.dockerfile), "--tag", recipe.reference]
    if ENGINES[engine].mounts:
        argv += [word for volume in volumes for word in ("--volume", volume)]
    argv += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    argv += proxy_arguments(environment) if engine == "docker" else []
    labels = labels_of_build(recipe.part, environment)
    argv += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    return [*argv, str(context)]


def _build(recipe: Recipe, context: Path, command: Sequence[str]) -> None:
    """Build with `command` from a context that has exactly the files that the tag hashes."""
    _copy_files(recipe.files, context)
    if recipe.part.name == "base":
        write_rootfs(context / "rootfs.tar", context.parent)
    # chroot needs no runtime and no cgroups, so a build also works inside a container or a small VM; docker before 23
    # has the cache mounts only with BuildKit, which it does not use by default
    run(command, environment={"BUILDAH_ISOLATION": "chroot", "DOCKER_BUILDKIT": "1"})
    shutil.rmtree(context)


def list_references(settings: Settings, engine: str) -> set[str]:
    """The images in the engine's store, as `name:tag`."""
    return set(run([*engine_command(settings, engine), "images", "--format", list_format(engine)]).split())


def _size(settings: Settings, image: str, engine: str) -> str:
    command = [*engine_command(settings, engine), "images", "--format", "{{.Size}}", image]
    return run(command).splitlines()[0].strip()


def _record(file: Path, references: Mapping[str, str]) -> None:
    """Add the references to the file; those of images that were not built now stay."""
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **references}, indent=2) + "\n")


@contextlib.contextmanager
def _one_at_a_time(settings: Settings, progress: Progress) -> Iterator[None]:
    """Wait for another build on the same cache, and remove the leftovers of a killed one."""
    with (settings.cache / "images.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("waiting for another build of the images to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in settings.cache.glob(f"{SCRATCH_PREFIX}*"):
            shutil.rmtree(left)
        yield


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "parts", nargs="*", help="images to build, with their parents (default: all but quantization-autoawq)"
    )
    parser.add_argument("--dataset", type=Path, help="CSV file of the dataset image (default: the sample data)")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="buildah",
        help="all but buildah need no root, and build on a Python image of a registry",
    )
    parser.add_argument("--json", action="store_true", help="print the references as JSON")


def main(options: argparse.Namespace, settings: Settings, progress: Progress) -> int:
    """Run the command `images`. Returns 0 when every image exists."""
    references = build_images(settings, progress, options.parts, options.dataset, options.engine)
    lines = [json.dumps(references, indent=2)] if options.json else [f"{k} {v}" for k, v in references.items()]
    print("\n".join(lines))
    return 0
