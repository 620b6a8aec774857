"""Builds the cluster's programs from the Go modules in cluster/, each into the cache under a key of its sources."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import ClusterError
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings
from toxicity_cluster.toolchain import ensure_go, go_environment, toolchain_version

COMPONENT_VERSION = "k8s.io/component-base/version"
KUBERNETES_STAMP = (
    f"-X {COMPONENT_VERSION}.gitVersion=v1.36.3",
    f"-X {COMPONENT_VERSION}.gitMajor=1",
    f"-X {COMPONENT_VERSION}.gitMinor=36",
)


@dataclass(frozen=True)
class Program:
    """One binary: its Go package, its aliases and the folder of its module below cluster/ (default: its name)."""

    name: str
    package: str = "."
    stamp: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    minutes: str = "1 min"
    module: str = ""
    tags: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The module's folder below cluster/."""
        return self.module or self.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `go build`, without the output."""
        tags = (f"-tags={','.join(self.tags)}",) if self.tags else ()
        return ("-trimpath", *tags, "-ldflags", " ".join(("-s", "-w", *self.stamp)), self.package)


PROGRAMS = (
    Program(
        "kubernetes",
        stamp=KUBERNETES_STAMP,
        aliases=(
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        ),
        minutes="6 min",
    ),
    Program("pause"),
    Program(
        "helm",
        "helm.sh/helm/v3/cmd/helm",
        ("-X helm.sh/helm/v3/internal/version.version=v3.22.0",),
        minutes="2 min",
    ),
    Program("coredns", minutes="2 min"),
    Program("local-path", "github.com/rancher/local-path-provisioner", minutes="2 min"),
    Program(
        "metrics-server",
        "sigs.k8s.io/metrics-server/cmd/metrics-server",
        (f"-X {COMPONENT_VERSION}.gitVersion=v0.8.0",),
        minutes="3 min",
    ),
)


KEDA_MODULE = "github.com/kedacore/keda/v2"
OPTIONAL_PROGRAMS = (
    Program(
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        minutes="3 min",
        # only Kubernetes service discovery: those of the cloud providers are most of its code
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    ),
    Program("keda-operator", f"{KEDA_MODULE}/cmd/operator", minutes="6 min", module="keda"),
    Program("keda-adapter", f"{KEDA_MODULE}/cmd/adapter", minutes="2 min", module="keda"),
)
"""For autoscaling by requests in flight; built and started on request only."""

TOOLS = (
    Program("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
    Program("vegeta", "github.com/tsenart/vegeta/v12"),
    Program("registry", "github.com/distribution/distribution/v3/cmd/registry", minutes="2 min"),
    Program("versitygw", "github.com/versity/versitygw/cmd/versitygw", minutes="2 min"),
)
"""Programs of the checks, tests and benchmarks; no part of the cluster."""

EVERY_PROGRAM = (*PROGRAMS, *OPTIONAL_PROGRAMS, *TOOLS)


def program_key(module: Path, go_version: str, arguments: Sequence[str]) -> str:
    """Hash of the module's files, the toolchain and the flags, as twelve hex digits."""
    digest = hashlib.sha256("\0".join((go_version, *arguments)).encode())
    for path in sorted(module.iterdir()):
        if path.suffix in {".go", ".mod", ".sum"}:
            digest.update(f"\0{path.name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def program_folder(settings: Settings, program: Program, go_version: str) -> Path:
    key = program_key(settings.sources / program.folder, go_version, program.arguments)
    return settings.cache / "bin" / f"{program.name}-{key}"


def build_programs(
    settings: Settings, progress: Progress, programs: Sequence[Program] = PROGRAMS
) -> dict[str, Path]:
    """Build the programs that the cache lacks; return the path of every program and alias by name."""
    go_version = toolchain_version()
    for program in programs:
        folder = program_folder(settings, program, go_version)
        if not (folder / program.name).exists():
            with progress.step(f"building {program.name} (about {program.minutes} from an empty cache)"):
                _build(settings, program, folder)
    return find_programs(settings, programs)


def build_program(settings: Settings, progress: Progress, name: str) -> Path:
    """Build the program `name` of EVERY_PROGRAM unless it is in the cache; return its path."""
    programs = [program for program in EVERY_PROGRAM if program.name == name]
    return build_programs(settings, progress, programs)[name]


def find_programs(settings: Settings, programs: Sequence[Program] = PROGRAMS) -> dict[str, Path]:
    """Return the path of every program and alias by name. Raises ClusterError if one is not built."""
    go_version = toolchain_version()
    found: dict[str, Path] = {}
    for program in programs:
        folder = program_folder(settings, program, go_version)
        if not (folder / program.name).exists():
            raise ClusterError(f"{program.name} is not built: run `python -m toxicity_cluster build`.")
        found.update({name: folder / name for name in (program.name, *program.aliases)})
    return found


def _build(settings: Settings, program: Program, folder: Path) -> None:
    """Build in a temporary folder, then rename it: an interrupted build leaves no incomplete program."""
    partial = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    run(
        [ensure_go(settings), "build", "-o", str(partial / program.name), *program.arguments],
        folder=settings.sources / program.folder,
        environment=go_environment(settings),
    )
    for alias in program.aliases:
        (partial / alias).symlink_to(program.name)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
