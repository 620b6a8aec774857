"""Checks the machine before a build; each refusal is one sentence with the remedy."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import CommandFailed, Refusal
from toxicity_cluster.settings import Settings

GIB = 1024**3
MIN_FREE_DISK_BYTES = 12 * GIB
MIN_MEMORY_BYTES = 7 * GIB


def check_machine(settings: Settings) -> None:
    """Raise Refusal for the first requirement that this machine does not meet."""
    wanted = parse_packages((settings.sources / "packages.txt").read_text())
    refusal = (
        refuse_architecture(platform.machine())
        or refuse_user(os.geteuid())
        or refuse_packages(wanted, installed_packages(wanted))
        or refuse_disk(settings.cache, free_bytes(settings.cache))
        or refuse_memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    )
    if refusal:
        raise Refusal(refusal)


def parse_packages(text: str) -> list[str]:
    """The names in packages.txt, one per line; `#` starts a comment."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def installed_packages(wanted: Sequence[str]) -> set[str]:
    """The packages of `wanted` that are installed."""
    if not shutil.which("dpkg-query"):
        raise Refusal(
            "The embedded cluster needs Debian or Ubuntu (dpkg-query is missing): set KUBECONFIG to another cluster."
        )
    try:
        listing = run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n"])
    except CommandFailed as error:
        raise Refusal(f"The list of installed packages cannot be read ({error}): repair dpkg first.") from error
    installed = {line[3:].strip() for line in listing.splitlines() if line.startswith("ii ")}
    return installed.intersection(wanted)


def free_bytes(folder: Path) -> int:
    """The free bytes of the disk on which `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def refuse_architecture(machine: str) -> str | None:
    if machine == "x86_64":
        return None
    return f"The embedded cluster runs on amd64 only, and this machine is {machine}: set KUBECONFIG to another cluster."


def refuse_user(effective_uid: int) -> str | None:
    if effective_uid == 0:
        return None
    return "The embedded cluster needs root (namespaces, mounts, cgroups): run the command with sudo."


def refuse_packages(wanted: Sequence[str], installed: set[str]) -> str | None:
    missing = [name for name in wanted if name not in installed]
    if not missing:
        return None
    return f"Debian packages are missing: run `apt-get install --no-install-recommends {' '.join(missing)}`."


def refuse_disk(folder: Path, free: int) -> str | None:
    if free >= MIN_FREE_DISK_BYTES:
        return None
    return (
        f"Only {free / GIB:.1f} GiB are free under {folder} and {MIN_FREE_DISK_BYTES / GIB:.0f} GiB are needed: "
        "free some, or set TOXICITY_CACHE to a larger disk."
    )


def refuse_memory(total: int) -> str | None:
    if total >= MIN_MEMORY_BYTES:
        return None
    needed = MIN_MEMORY_BYTES / GIB
    return f"The machine has {total / GIB:.1f} GiB of memory and {needed:.0f} GiB are needed: use a larger one."
