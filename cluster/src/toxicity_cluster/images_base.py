"""What an image build takes from this machine: the root file system, torch, certificates and mirrors.

None of it is committed, and no image contains the name of a mirror.
"""

from __future__ import annotations

import configparser
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.settings import Settings

SUITE = "bookworm"
PACKAGES = (
    "python3",
    "python3-venv",
    "ca-certificates",
    "busybox-static",
    "libgomp1",
    "libnuma1",
    "libtcmalloc-minimal4",
)
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
PUBLIC_SOURCE = f"deb http://deb.debian.org/debian {SUITE} main"

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_WHEEL = "torch-2.13.0+cpu-*.whl"

APT_FOLDER = Path("/etc/apt")
CERTIFICATES = Path("/etc/ssl/certs")
PIP_CONFIGURATION = Path("/etc/pip.conf")


def rootfs_recipe() -> dict[str, str]:
    """What determines the root file system, for the tag of the base image."""
    return {"SUITE": SUITE, "PACKAGES": " ".join(PACKAGES), "EXCLUDED": " ".join(EXCLUDED)}


def write_rootfs(target: Path, scratch: Path) -> None:
    """Write a minimal Debian with Python as a tar, from the mirrors of this machine's apt."""
    options = _write_apt_options(scratch)
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--aptopt={options}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    # remove this machine's mirrors from the image
    argv.append('--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list.d/*')
    argv.append(f'--customize-hook=echo "{PUBLIC_SOURCE}" > "$1"/etc/apt/sources.list')
    run([*argv, SUITE, str(target), *map(str, debian_sources(APT_FOLDER))], environment={"LC_ALL": "C.UTF-8"})


def _write_apt_options(scratch: Path) -> Path:
    options = scratch / "apt.conf"
    options.write_text(acquire_options(run(["apt-config", "dump"])))
    return options


def acquire_options(dump: str) -> str:
    """The lines of `apt-config dump` about access to mirrors (proxies, certificates, checks)."""
    wanted = re.compile(r'^Acquire::(http|https|Check-|Retries)\S* ".+";$')
    return "".join(f"{line}\n" for line in dump.splitlines() if wanted.match(line))


def debian_sources(apt: Path) -> list[Path]:
    """The files of apt's sources with `main` of SUITE; none on a machine with another release."""
    folder = apt / "sources.list.d"
    candidates = [apt / "sources.list", *sorted([*folder.glob("*.list"), *folder.glob("*.sources")])]
    return [path for path in candidates if path.is_file() and _serves_suite(path.read_text())]


def _serves_suite(text: str) -> bool:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return {SUITE, "main"} <= set(" ".join(lines).split())


@dataclass(frozen=True)
class TorchSource:
    """`argument` is the build argument TORCH_SOURCE; `wheels` is the folder to mount if it is `wheels`."""

    argument: str
    explanation: str
    wheels: Path | None = None

    @property
    def build(self) -> str:
        """`cpu` or `cuda`: the kind of torch in the image."""
        return "cuda" if self.argument == "pypi" else "cpu"


CPU_INDEX = TorchSource(TORCH_CPU_INDEX, TORCH_CPU_INDEX)


def wants_cuda(environment: Mapping[str, str]) -> bool:
    """Whether TORCH_SOURCE requests PyPI's CUDA build."""
    return environment.get("TORCH_SOURCE") == "pypi"


def choose_torch(environment: Mapping[str, str]) -> TorchSource:
    """Choose PyPI's CUDA build if TORCH_SOURCE requests it, else the first source that is available.

    In this order: the wheel in TORCH_WHEELS, the public CPU index, PyPI's CUDA build.
    """
    if wants_cuda(environment):
        return TorchSource("pypi", "PyPI's CUDA build, which TORCH_SOURCE requests")
    given = environment.get("TORCH_WHEELS")
    if given and any(Path(given).glob(TORCH_WHEEL)):
        return TorchSource("wheels", f"the wheel in {given}", Path(given).absolute())
    if _answers(f"{TORCH_CPU_INDEX}/torch/"):
        return CPU_INDEX
    return TorchSource(
        "pypi", "PyPI's CUDA build (6.5 GB): TORCH_WHEELS has no wheel, and the CPU index does not answer"
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False


def package_index(environment: Mapping[str, str], pip_configuration: Path) -> str | None:
    """The package index that this machine uses instead of PyPI, or None."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environment.get(name):
            return environment[name]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(pip_configuration)
    return parser.get("global", "index-url", fallback=None)


def build_volumes(
    settings: Settings, environment: Mapping[str, str], scratch: Path, torch: TorchSource
) -> list[str]:
    """`host:container:mode` mounts that give a build the certificates, mirrors and caches of this machine."""
    cache = settings.cache / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    volumes = [f"{cache}:/var/cache/uv:rw"]
    volumes += [f"{path}:{path}:ro" for path in (CERTIFICATES, PIP_CONFIGURATION) if path.exists()]
    if shutil.which("apt-config"):
        volumes.append(f"{_write_apt_options(scratch)}:/etc/apt/apt.conf.d/90-this-machine:ro")
    volumes += [f"{path}:/etc/apt/sources.list.d/{path.name}:ro" for path in debian_sources(APT_FOLDER)]
    index = package_index(environment, PIP_CONFIGURATION)
    if index:
        configuration = scratch / "uv.toml"
        configuration.write_text(f'[[index]]\nurl = "{index}"\ndefault = true\n')
        volumes.append(f"{configuration}:/etc/uv/uv.toml:ro")
    if torch.wheels:
        volumes.append(f"{torch.wheels}:/wheels:ro")
    return volumes
