"""The program that builds and pushes images.

`buildah` builds on a Debian of its own, which needs root and mmdebstrap but no registry. The other engines need neither
root nor mmdebstrap: they build on a Python image of a registry.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toxicity_cluster.commands import run
from toxicity_cluster.containerd import buildah
from toxicity_cluster.errors import CommandFailed, Refusal
from toxicity_cluster.settings import Settings


@dataclass(frozen=True)
class Engine:
    """`makes_base`: it builds the base image. `mounts`: a build can mount folders of this machine."""

    program: str
    makes_base: bool = False
    mounts: bool = True


ENGINES: Mapping[str, Engine] = {
    "buildah": Engine("buildah", makes_base=True),
    "docker": Engine("docker", mounts=False),
    "podman": Engine("podman"),
    "buildah-public": Engine("buildah"),
}
"""In the order of preference."""


def choose_engine(given: str | None, is_root: bool, is_usable: Callable[[str], bool]) -> str:
    """The given engine, or else the first one whose programs this machine has.

    `is_usable` says whether a program can be run. Raises Refusal if there is none.
    """
    for name in [given] if given else ENGINES:
        programs = [ENGINES[name].program, *(["mmdebstrap"] if ENGINES[name].makes_base else [])]
        if all(map(is_usable, programs)) and (is_root or not ENGINES[name].makes_base):
            return name
    if given:
        needs = (
            " and mmdebstrap, and run as root"
            if ENGINES[given].makes_base
            else ", and start its daemon if it has one"
        )
        raise Refusal(f"The engine {given} is not usable: install {ENGINES[given].program}{needs}.")
    raise Refusal("No program builds images here: install docker, podman or buildah.")


def is_usable(program: str) -> bool:
    """Whether a program is installed, and for docker whether its daemon answers."""
    if not shutil.which(program):
        return False
    if program != "docker":
        return True
    try:
        run(["docker", "info"], timeout_seconds=20)
    except CommandFailed:
        return False
    return True


def engine_command(settings: Settings, engine: str) -> list[str]:
    """The program. Only the engine `buildah` uses the store of this project."""
    return buildah(settings) if engine == "buildah" else [ENGINES[engine].program]


def list_format(engine: str) -> str:
    """The format of `images` that prints `name:tag`."""
    field = "Name" if ENGINES[engine].program == "buildah" else "Repository"
    return "{{." + field + "}}:{{.Tag}}"


def push_commands(settings: Settings, engine: str, reference: str, target: str) -> list[list[str]]:
    """The commands that push `reference` as `target`."""
    program = engine_command(settings, engine)
    if engine == "docker":
        return [[*program, "tag", reference, target], [*program, "push", "--quiet", target]]
    return [[*program, "push", "--quiet", reference, f"docker://{target}"]]
