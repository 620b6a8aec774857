"""Runs the kubectl of the cluster in use, for `up`, the demo and the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from toxicity_cluster.build import find_programs
from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError, Refusal
from toxicity_cluster.settings import Settings


def kubectl(
    *arguments: str, input: str | None = None, settings: Settings | None = None, timeout_seconds: float = 300.0
) -> str:
    """Run kubectl and return its stdout. Raises CommandFailed with its error."""
    settings = settings or Settings.from_environment()
    argv = [str(program("kubectl", settings)), f"--kubeconfig={settings.kubeconfig}", *arguments]
    return run(argv, input=input, timeout_seconds=timeout_seconds)


def program(name: str, settings: Settings | None = None) -> Path:
    """The path of a built program (`kubectl`, `helm`). With KUBECONFIG set, a program on PATH suffices.

    Raises Refusal if the machine has neither.
    """
    settings = settings or Settings.from_environment()
    try:
        return find_programs(settings)[name]
    except ClusterError as error:
        on_path = shutil.which(name) if settings.given_kubeconfig else None
        if on_path is None:
            raise Refusal(f"{name} is not installed: install it, or build it ({error})") from error
        return Path(on_path)
