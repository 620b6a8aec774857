"""Which program builds and pushes the images, its commands, and which cluster the demo uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_cluster.demo_cluster import choose_cluster
from toxicity_cluster.engines import ENGINES, choose_engine, engine_command, list_format, push_commands
from toxicity_cluster.errors import Refusal
from toxicity_cluster.images import build_command, plan_recipes
from toxicity_cluster.images_base import CPU_INDEX
from toxicity_cluster.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
REFERENCE, TARGET = "localhost/toxicity-operator:12ab", "registry.example/team/toxicity-operator:12ab"


@pytest.mark.parametrize(
    ("given", "is_root", "installed", "chosen"),
    [
        (None, True, {"buildah", "mmdebstrap", "docker"}, "buildah"),
        (None, False, {"buildah", "mmdebstrap", "docker"}, "docker"),
        (None, True, {"buildah", "podman"}, "podman"),
        (None, False, {"buildah"}, "buildah-public"),
        ("podman", True, {"buildah", "mmdebstrap", "podman"}, "podman"),
        ("buildah-public", True, {"buildah", "mmdebstrap"}, "buildah-public"),
    ],
)
def test_the_first_usable_engine_is_chosen_unless_one_is_given(
    given: str | None, is_root: bool, installed: set[str], chosen: str
) -> None:
    assert choose_engine(given, is_root, installed.__contains__) == chosen


@pytest.mark.parametrize(
    ("given", "is_root", "installed", "remedy"),
    [
        (None, True, set(), "install docker, podman or buildah"),
        (None, False, {"mmdebstrap"}, "install docker, podman or buildah"),
        ("docker", False, {"buildah"}, "install docker, and start its daemon"),
        ("buildah", False, {"buildah", "mmdebstrap"}, "install buildah and mmdebstrap, and run as root"),
    ],
)
def test_without_a_usable_engine_the_remedy_is_named(
    given: str | None, is_root: bool, installed: set[str], remedy: str
) -> None:
    with pytest.raises(Refusal, match=remedy):
        choose_engine(given, is_root, installed.__contains__)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "cache", tmp_path / "state", ROOT / "cluster")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_build_names_the_dockerfile_the_tag_and_its_parents(engine: str, settings: Settings) -> None:
    recipes = {r.part.name: r for r in plan_recipes(ROOT, ["training"], ROOT / "x", CPU_INDEX, engine, "python:1")}
    recipe, context = recipes["training"], Path("/context")
    command = build_command(settings, recipe, CPU_INDEX, ["/a:/b:ro"], context, engine, {})
    assert command[: len(engine_command(settings, engine)) + 1] == [*engine_command(settings, engine), "build"]
    assert command[command.index("--file") + 1] == "/context/images/training/Dockerfile"
    assert command[command.index("--tag") + 1] == recipe.reference
    assert f"TORCH_IMAGE={recipes['torch'].reference}" in command
    base = recipes["base"].reference if engine == "buildah" else "python:1"
    assert f"PYTHON_IMAGE={base}" in command
    assert ("--volume" in command) is (engine != "docker")
    assert command[-1] == "/context"


@pytest.mark.parametrize(
    ("engine", "commands"),
    [
        ("docker", [["docker", "tag", REFERENCE, TARGET], ["docker", "push", "--quiet", TARGET]]),
        ("podman", [["podman", "push", "--quiet", REFERENCE, f"docker://{TARGET}"]]),
        ("buildah-public", [["buildah", "push", "--quiet", REFERENCE, f"docker://{TARGET}"]]),
    ],
)
def test_a_push(engine: str, commands: list[list[str]], settings: Settings) -> None:
    assert push_commands(settings, engine, REFERENCE, TARGET) == commands


def test_only_one_engine_uses_the_store_of_the_project(settings: Settings) -> None:
    own = push_commands(settings, "buildah", REFERENCE, TARGET)[0]
    assert own[:3] == ["buildah", "--root", str(settings.containers)]
    formats = {engine: list_format(engine) for engine in ENGINES}
    assert formats["buildah"] == formats["buildah-public"] == "{{.Name}}:{{.Tag}}"
    assert formats["docker"] == formats["podman"] == "{{.Repository}}:{{.Tag}}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a kubeconfig."""
    (tmp_path / "home" / ".kube").mkdir(parents=True)
    (tmp_path / "home" / ".kube" / "config").write_text("{}")
    return tmp_path / "home"


def a_given(settings: Settings, kubeconfig: Path) -> Settings:
    return Settings(settings.cache, settings.state, settings.sources, kubeconfig)


def test_the_embedded_cluster_is_the_default(settings: Settings, home: Path) -> None:
    assert choose_cluster(None, settings, None, home) == settings
    assert choose_cluster("embedded", settings, None, home) == settings


def test_current_is_the_cluster_of_the_kubeconfig(settings: Settings, home: Path, tmp_path: Path) -> None:
    assert choose_cluster("current", settings, "registry.example", home).kubeconfig == home / ".kube" / "config"
    (tmp_path / "mine").write_text("{}")
    given = a_given(settings, tmp_path / "mine")
    for cluster in ("current", None):
        assert choose_cluster(cluster, given, "registry.example", home).kubeconfig == tmp_path / "mine"


@pytest.mark.parametrize(
    ("cluster", "given", "registry", "remedy"),
    [
        ("embedded", None, "registry.example", "pass CLUSTER=current, or no REGISTRY"),
        (None, None, "registry.example", "pass CLUSTER=current, or no REGISTRY"),
        ("embedded", "mine", None, "unset it, or pass CLUSTER=current"),
        ("current", "missing", "registry.example", "set KUBECONFIG"),
        ("current", None, None, "set REGISTRY"),
        (None, "mine", None, "set REGISTRY"),
        ("current", None, "https://registry.example", "without a scheme"),
    ],
)
def test_a_cluster_that_cannot_be_used_names_the_remedy(
    settings: Settings, home: Path, tmp_path: Path,
    cluster: str | None, given: str | None, registry: str | None, remedy: str,
) -> None:  # fmt: skip
    (tmp_path / "mine").write_text("{}")
    chosen = a_given(settings, tmp_path / given) if given else settings
    with pytest.raises(Refusal, match=remedy):
        choose_cluster(cluster, chosen, registry, home)
