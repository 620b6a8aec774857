"""What each container image contains, and its tag, which is known before the build.

A tag is a hash of the files that the image copies, its build arguments and the references of its parents. A changed
source gives a new tag to exactly the images that contain it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toxicity_cluster.errors import Refusal

NAME_PREFIX = "localhost/toxicity-"
IGNORED_NAMES = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})

API = "operator/src/toxicity_api"
STORE = "storage/src/toxicity_store"
STAGE = "training-job/src/toxicity_stage"
TRAINING = "training-job/src/toxicity_training"
QUANTIZATION = "training-job/src/toxicity_quantization"
PYTHON_IMAGE = {"PYTHON_IMAGE": "base"}
TORCH_IMAGE = {"PYTHON_IMAGE": "base", "TORCH_IMAGE": "torch"}


@dataclass(frozen=True)
class Part:
    """One image: the files that its Dockerfile copies, and its parent images by build argument.

    `licenses` is an SPDX expression for what this project or a model's publisher wrote. The image also has the packages
    of its lock. An `optional` image is built only on request. `limit_mb` limits its unpacked size, with its parents and
    a CPU build of torch.
    """

    name: str
    description: str
    limit_mb: int
    files: tuple[str, ...] = ()
    parents: Mapping[str, str] = field(default_factory=dict)
    minutes: str = "1 min"
    licenses: str = "Apache-2.0"
    optional: bool = False

    @property
    def dockerfile(self) -> str:
        return f"images/{self.name}/Dockerfile"

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.dockerfile, *self.files)


PARTS = (
    Part("base", "Debian with Python", 200),
    Part("torch", "PyTorch", 1150, ("images/torch/requirements.txt",), PYTHON_IMAGE, "3 min"),
    Part(
        "operator",
        "The operator for ToxicityModel resources",
        400,
        ("images/operator/requirements.txt", API, "operator/src/toxicity_operator"),
        PYTHON_IMAGE,
    ),
    Part(
        "loadtest",
        "Load test with Locust",
        800,
        ("images/loadtest/requirements.txt", API, STORE, "loadtest/src/toxicity_loadtest"),
        PYTHON_IMAGE,
    ),
    Part(
        "training",
        "Training with Transformers and PEFT",
        2150,
        ("images/training/requirements.txt", API, STORE, STAGE, TRAINING),
        TORCH_IMAGE,
        "2 min",
    ),
    Part(
        "quantization",
        "AWQ quantization with llm-compressor",
        2000,
        ("images/quantization/requirements.txt", API, STORE, STAGE, TRAINING, QUANTIZATION),
        TORCH_IMAGE,
        "2 min",
    ),
    Part(
        "quantization-autoawq",
        "AWQ quantization with AutoAWQ",
        2000,
        (
            "images/quantization-autoawq/requirements.txt",
            API,
            STORE,
            STAGE,
            TRAINING,
            "training-job/src/toxicity_quantization",
        ),
        TORCH_IMAGE,
        "2 min",
        optional=True,
    ),
    Part(
        "serving",
        "Evaluation and serving with vLLM",
        3300,
        (
            "images/serving/requirements.txt",
            "images/serving/requirements-cuda.txt",
            API,
            STORE,
            "serving/src/toxicity_score",
            "serving/src/toxicity_serving",
            STAGE,
            TRAINING,
            "training-job/src/toxicity_evaluation",
        ),
        TORCH_IMAGE,
        "2 min",
    ),
    Part(
        "base-model",
        "Gemma 3 270M",
        650,
        (
            "images/training/requirements.txt",
            "images/base-model/requirements.txt",
            "training-job/src/toxicity_training/convert_gguf.py",
        ),
        TORCH_IMAGE,
        "3 min",
        "LicenseRef-Gemma",
    ),
    Part("dataset", "Labelled comments", 50),
)
"""Every image comes after its parents."""

REQUIRED = tuple(part.name for part in PARTS if not part.optional)
OPTIONAL = tuple(part.name for part in PARTS if part.optional)
"""Images that are built only on request."""

PARENTS = frozenset(parent for part in PARTS for parent in part.parents.values())
"""Images that no pod runs. A registry stores their layers with those of the other images."""


def select_parts(names: Sequence[str]) -> tuple[Part, ...]:
    """The named images and their parents, parents first; without names, all images."""
    by_name = {part.name: part for part in PARTS}
    unknown = sorted(set(names) - set(by_name))
    if unknown:
        raise Refusal(f"There is no image called {', '.join(unknown)}: choose from {', '.join(by_name)}.")
    wanted = set(names or by_name)
    for part in reversed(PARTS):
        if part.name in wanted:
            wanted.update(part.parents.values())
    return tuple(part for part in PARTS if part.name in wanted)


def list_files(root: Path, paths: Sequence[str]) -> dict[str, Path]:
    """Every file below `paths` by its path in the repository. Raises Refusal if a path is missing."""
    found: dict[str, Path] = {}
    for name in paths:
        start = root / name
        if not start.exists():
            raise Refusal(f"{start} is missing: restore it from the repository.")
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and not IGNORED_NAMES.intersection(relative.parts):
                found[relative.as_posix()] = path
    return found


def content_tag(files: Mapping[str, Path], arguments: Mapping[str, str]) -> str:
    """Hash of names, contents and arguments, as twelve hex digits; without times, modes and order."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"file\0{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    for name, value in sorted(arguments.items()):
        digest.update(f"argument\0{name}\0{value}\0".encode())
    return digest.hexdigest()[:12]


def reference(part: Part, tag: str) -> str:
    return f"{NAME_PREFIX}{part.name}:{tag}"
