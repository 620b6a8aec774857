"""What an image build takes from this machine: the root file system, torch, certificates and mirrors.

None of it is committed, and no image contains the name of a mirror.
"""

from __future__ import annotations

import base64
import configparser
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toxicity_cluster.commands import run
from toxicity_cluster.errors import Refusal
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
ANSWER_SECONDS = 10.0

APT_FOLDER = Path("/etc/apt")
CERTIFICATES = Path("/etc/ssl/certs")
PIP_CONFIGURATION = Path("/etc/pip.conf")
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")


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
    """Where torch comes from. `argument` is the Dockerfile's TORCH_SOURCE: `cuda`, `wheels` or the URL of an index.

    `wheels` is the folder to mount if it is `wheels`.
    """

    argument: str
    explanation: str
    wheels: Path | None = None

    @property
    def build(self) -> str:
        """`cpu` or `cuda`: the kind of torch in the image."""
        return "cuda" if self.argument == "cuda" else "cpu"


CPU_INDEX = TorchSource(TORCH_CPU_INDEX, TORCH_CPU_INDEX)
CUDA = TorchSource("cuda", "PyPI's CUDA build (6.5 GB), which TORCH_SOURCE requests")
TORCH_SOURCES = f"`cpu`, `cuda`, the URL of an index with CPU builds, or a folder with {TORCH_WHEEL}"


def choose_torch(environment: Mapping[str, str]) -> TorchSource:
    """The source of torch that TORCH_SOURCE names, `cpu` by default. Raises Refusal for anything else.

    Nothing is asked over the network, so the same environment always chooses the same images. `cpu` is the wheel in
    TORCH_WHEELS, or else PyTorch's CPU index.
    """
    given = environment.get("TORCH_SOURCE") or "cpu"
    if given == "cuda":
        return CUDA
    if given == "cpu":
        folder = environment.get("TORCH_WHEELS")
        return _folder(folder) if folder and has_torch_wheel(Path(folder)) else CPU_INDEX
    if given.startswith(("https://", "http://")):
        return TorchSource(given, f"the index {without_login(given)}")
    if not Path(given).is_dir():
        raise Refusal(
            f"TORCH_SOURCE is {given}, which is neither a folder nor a known source: set {TORCH_SOURCES}."
        )
    if not has_torch_wheel(Path(given)):
        raise Refusal(f"TORCH_SOURCE names the folder {given}, which has no {TORCH_WHEEL}: set {TORCH_SOURCES}.")
    return _folder(given)


def has_torch_wheel(folder: Path) -> bool:
    return any(folder.glob(TORCH_WHEEL))


def _folder(name: str) -> TorchSource:
    return TorchSource("wheels", f"the wheel in {name}", Path(name).absolute())


def without_login(url: str) -> str:
    """The URL without a user and password, for messages."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def require_answer(torch: TorchSource) -> None:
    """Raise Refusal if the index of this source does not answer, before a build or an installation begins."""
    if not torch.argument.startswith(("https://", "http://")):
        return
    page = f"{torch.argument.rstrip('/')}/torch/"
    try:
        request = urllib.request.Request(without_login(page), method="HEAD", headers=_login(page))
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
            return
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response too
        raise Refusal(
            f"{without_login(page)} does not answer ({_reason(error)}), so the CPU build of torch cannot be installed:"
            f" set TORCH_SOURCE to {TORCH_SOURCES}."
        ) from error


def _login(url: str) -> dict[str, str]:
    """The header for the user and password of the URL, which urllib itself does not read."""
    parts = urllib.parse.urlsplit(url)
    if parts.username is None:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error)


def package_index(environment: Mapping[str, str], pip_configuration: Path) -> str | None:
    """The package index that this machine uses instead of PyPI, or None."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environment.get(name):
            return environment[name]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(pip_configuration)
    return parser.get("global", "index-url", fallback=None)


def write_pip_configuration(target: Path, given: Path, index: str | None, certificates: Path) -> None:
    """Write the configuration of pip in a build: that of the machine, with this index and these CA certificates.

    The pip of a public Python image has certificates of its own. uv uses those of the system.
    """
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(given)
    if not parser.has_section("global"):
        parser.add_section("global")
    if index:
        parser.set("global", "index-url", index)
    if certificates.exists() and not parser.has_option("global", "cert"):
        parser.set("global", "cert", str(certificates))
    with target.open("w") as stream:
        parser.write(stream)


def proxy_arguments(environment: Mapping[str, str]) -> list[str]:
    """Arguments that give docker's build the proxies of this process; buildah and podman pass them on by themselves."""
    names = [name for name in PROXIES if environment.get(name)]
    return [word for name in names for word in ("--build-arg", name)]


def build_volumes(
    settings: Settings, environment: Mapping[str, str], scratch: Path, torch: TorchSource
) -> list[str]:
    """`host:container:mode` mounts that give a build the certificates, mirrors and caches of this machine.

    The cache of packages takes the place of the cache mount in the Dockerfiles, so that builds share it with the tests.
    """
    cache = settings.cache / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    volumes = [f"{cache}:/var/cache/uv:rw"]
    volumes += [f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.exists() else []
    if shutil.which("apt-config"):
        volumes.append(f"{_write_apt_options(scratch)}:/etc/apt/apt.conf.d/90-this-machine:ro")
    volumes += [f"{path}:/etc/apt/sources.list.d/{path.name}:ro" for path in debian_sources(APT_FOLDER)]
    index = package_index(environment, PIP_CONFIGURATION)
    write_pip_configuration(scratch / "pip.conf", PIP_CONFIGURATION, index, CERTIFICATES / "ca-certificates.crt")
    volumes.append(f"{scratch / 'pip.conf'}:{PIP_CONFIGURATION}:ro")
    if index:
        configuration = scratch / "uv.toml"
        configuration.write_text(f'[[index]]\nurl = "{index}"\ndefault = true\n')
        volumes.append(f"{configuration}:/etc/uv/uv.toml:ro")
    if torch.wheels:
        volumes.append(f"{torch.wheels}:/wheels:ro")
    return volumes
