"""Image tags are hashes of content: what changes them, what does not, and what the Dockerfiles have in common."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from toxicity_cluster.commands import run
from toxicity_cluster.errors import CommandFailed, Refusal
from toxicity_cluster.images import Recipe, build_command, plan_recipes
from toxicity_cluster.images_bake import PUBLIC_PYTHON
from toxicity_cluster.images_base import CPU_INDEX, CUDA, TorchSource
from toxicity_cluster.images_lock import Lock, lock_command
from toxicity_cluster.images_parts import PARTS, content_tag, list_files, select_parts
from toxicity_cluster.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
CACHE_MOUNT = "--mount=type=cache,target=/var/cache/uv"
TORCH_STAGES = {"training", "quantization", "quantization-autoawq", "serving", "base-model"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository in which every path that an image copies exists, with one module in each package."""
    for part in PARTS:
        for name in part.paths:
            is_file = "." in Path(name).name or name.endswith("Dockerfile")
            path = tmp_path / name if is_file else tmp_path / name / "module.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {name}")
    (tmp_path / "data.csv").write_text("comment,toxic\nпривет,0\n")
    return tmp_path


def tags(checkout: Path, dataset: str = "data.csv", torch: TorchSource = CPU_INDEX) -> dict[str, str]:
    recipes = plan_recipes(checkout, [], checkout / dataset, torch, "buildah")
    return {recipe.part.name: recipe.reference for recipe in recipes}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_every_image_has_a_reference_of_its_own(checkout: Path) -> None:
    references = tags(checkout)

    assert set(references) == {part.name for part in PARTS}
    for name, reference in references.items():
        assert re.fullmatch(rf"localhost/toxicity-{name}:[0-9a-f]{{12}}", reference)


@pytest.mark.parametrize(
    ("edited", "images"),
    [
        ("training-job/src/toxicity_stage/module.py", {*TORCH_STAGES} - {"base-model"}),
        ("training-job/src/toxicity_training/module.py", {*TORCH_STAGES} - {"base-model"}),
        ("serving/src/toxicity_serving/module.py", {"serving"}),
        ("loadtest/src/toxicity_loadtest/module.py", {"loadtest"}),
        ("operator/src/toxicity_api/module.py", {"operator", "loadtest", *TORCH_STAGES} - {"base-model"}),
        ("training-job/src/toxicity_quantization/module.py", {"quantization", "quantization-autoawq"}),
        ("images/torch/requirements.txt", {"torch", *TORCH_STAGES}),
        ("images/base/Dockerfile", {part.name for part in PARTS} - {"dataset"}),
        ("data.csv", {"dataset"}),
    ],
)
def test_an_edit_gives_a_new_tag_to_just_the_images_that_contain_it(
    checkout: Path, edited: str, images: set[str]
) -> None:
    before = tags(checkout)
    (checkout / edited).write_text("edited")

    assert changed(before, tags(checkout)) == images


def test_an_edit_taken_back_gives_the_old_tags(checkout: Path) -> None:
    module = checkout / "serving/src/toxicity_serving/module.py"
    before, text = tags(checkout), module.read_text()
    module.write_text("edited")
    assert tags(checkout) != before
    module.write_text(text)

    assert tags(checkout) == before


def test_compiled_files_do_not_count(checkout: Path) -> None:
    before = tags(checkout)
    cache = checkout / "serving/src/toxicity_serving/__pycache__"
    cache.mkdir()
    (cache / "module.cpython-311.pyc").write_bytes(b"compiled")

    assert tags(checkout) == before


def test_a_moved_file_counts(checkout: Path) -> None:
    before = tags(checkout)
    module = checkout / "serving/src/toxicity_serving/module.py"
    module.rename(module.with_name("other.py"))

    assert changed(before, tags(checkout)) == {"serving"}


def test_arguments_are_part_of_the_tag(checkout: Path) -> None:
    files = list_files(checkout, ["data.csv"])

    assert len({content_tag(files, {}), content_tag(files, {"A": "1"}), content_tag(files, {"A": "2"})}) == 3


def test_a_cuda_torch_is_another_image_and_a_wheel_is_not(checkout: Path) -> None:
    wheel = TorchSource("wheels", "a wheel", checkout)

    assert tags(checkout, torch=wheel) == tags(checkout)
    assert changed(tags(checkout), tags(checkout, torch=CUDA)) == {"torch", *TORCH_STAGES}


def test_vllm_brings_its_own_torch_on_cuda(checkout: Path) -> None:
    recipes = {r.part.name: r for r in plan_recipes(checkout, ["serving"], checkout / "data.csv", CUDA, "buildah")}

    assert recipes["serving"].arguments["ENGINE"] == "cuda"
    assert recipes["serving"].arguments["TORCH_IMAGE"] == recipes["base"].reference


def test_a_gzipped_data_set_keeps_its_suffix(checkout: Path) -> None:
    (checkout / "data.csv.gz").write_bytes(b"\x1f\x8b")
    [plain] = plan_recipes(checkout, ["dataset"], checkout / "data.csv", CPU_INDEX, "buildah")
    [gzipped] = plan_recipes(checkout, ["dataset"], checkout / "data.csv.gz", CPU_INDEX, "buildah")

    assert set(plain.files) == {"images/dataset/Dockerfile", "dataset/comments.csv"}
    assert set(gzipped.files) == {"images/dataset/Dockerfile", "dataset/comments.csv.gz"}


def test_what_an_image_stands_on_comes_first() -> None:
    assert [part.name for part in select_parts(["base-model"])] == ["base", "torch", "base-model"]
    order = [part.name for part in PARTS]
    for part in PARTS:
        for parent in part.parents.values():
            assert order.index(parent) < order.index(part.name)


def test_an_unknown_image_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match="no image called servng"):
        select_parts(["servng"])


def test_a_missing_source_is_refused_by_name(checkout: Path) -> None:
    (checkout / "images/serving/requirements.txt").unlink()

    with pytest.raises(Refusal, match=r"images/serving/requirements\.txt is missing"):
        tags(checkout)


def _command(
    checkout: Path, name: str, engine: str, environment: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    settings = Settings(checkout / "cache", checkout / "state", checkout / "cluster")
    recipes = {r.part.name: r for r in plan_recipes(checkout, [name], checkout / "data.csv", CPU_INDEX, engine)}
    recipe: Recipe = recipes[name]
    return build_command(
        settings, recipe, CPU_INDEX, ["/host:/inside:ro"], checkout / "context", engine, environment
    )


def test_buildah_gets_the_parents_and_the_mounts(checkout: Path) -> None:
    command = _command(checkout, "training", "buildah")

    assert command[:3] == ["buildah", "--root", str(checkout / "cache/containers")]
    assert command[command.index("--volume") + 1] == "/host:/inside:ro"
    assert any(word.startswith("TORCH_IMAGE=localhost/toxicity-torch:") for word in command)
    assert command[-1] == str(checkout / "context")


def test_docker_starts_from_the_public_python_image(checkout: Path) -> None:
    command = _command(checkout, "torch", "docker")

    assert command[:2] == ["docker", "build"]
    assert "--volume" not in command
    assert f"TORCH_SOURCE={CPU_INDEX.argument}" in command
    assert f"PYTHON_IMAGE={PUBLIC_PYTHON}" in command


def test_a_pinned_python_image_is_another_image_with_docker(checkout: Path) -> None:
    pinned = f"{PUBLIC_PYTHON}@sha256:{'3c' * 32}"
    plain, other = (
        {r.part.name: r for r in plan_recipes(checkout, [], checkout / "data.csv", CPU_INDEX, "docker", image)}
        for image in (PUBLIC_PYTHON, pinned)
    )

    assert other["operator"].arguments["PYTHON_IMAGE"] == pinned
    differ = {name for name in plain if plain[name].reference != other[name].reference}
    assert differ == plain.keys() - {"dataset"}


def test_images_say_what_they_are(checkout: Path) -> None:
    command = _command(checkout, "training", "buildah", {"REVISION": "1234abc"})

    labels = dict(word.split("=", 1) for word in command if word.startswith("org.opencontainers.image."))
    assert labels == {
        "org.opencontainers.image.title": "toxicity-training",
        "org.opencontainers.image.description": "Training with Transformers and PEFT",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": importlib.metadata.version("toxicity-cluster"),
        "org.opencontainers.image.revision": "1234abc",
    }
    assert all(command[command.index(f"{name}={value}") - 1] == "--label" for name, value in labels.items())


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.name))
def test_a_dockerfile_copies_what_its_tag_covers(part: object) -> None:
    [declared] = [known for known in PARTS if known is part]
    copied: set[str] = set()
    for line in (ROOT / declared.dockerfile).read_text().splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            copied.update(line.split()[1:-1])

    assert copied - {"dataset/"} == set(declared.files)


def locked(lock: Path) -> list[str]:
    """The entries of a lock, each with its hashes in one line."""
    return lock.read_text().replace("\\\n", "").splitlines()


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("images/*/Dockerfile")), ids=lambda path: path.parent.name)
def test_packages_are_kept_in_a_cache_and_not_in_a_layer(dockerfile: Path) -> None:
    commands = re.findall(r"^RUN (?:.*\\\n)*.*$", dockerfile.read_text(), re.MULTILINE)
    installing = [command for command in commands if re.search(r"\bpip install|/bin/uv ", command)]
    missing = [command for command in installing if not command.startswith(f"RUN {CACHE_MOUNT} ")]
    assert missing == []


def test_locks_are_pinned_with_hashes_and_name_no_index() -> None:
    locks = sorted((ROOT / "images").glob("*/requirements*.txt"))
    assert len(locks) >= 8
    entry = re.compile(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^ ]+( ; [^#]*?)?( +--hash=sha256:[0-9a-f]{64})+")
    for lock in locks:
        assert [line for line in locked(lock) if not entry.fullmatch(line)] == [], lock


def test_the_stages_share_the_torch_layers_versions() -> None:
    shared = set(locked(ROOT / "images/torch/requirements.txt"))
    for name in ("training", "quantization", "quantization-autoawq", "serving"):
        assert shared <= set(locked(ROOT / f"images/{name}/requirements.txt")), name


def write_wheel(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "locked-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("locked.py", text)
        wheel.writestr("locked-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1.0\n")
        wheel.writestr(
            "locked-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("locked-1.0.dist-info/RECORD", "")


def test_a_package_whose_content_has_changed_is_not_installed(tmp_path: Path) -> None:
    """By the command that writes the locks and the one of the Dockerfiles, with a folder of wheels as the index."""
    wheels, lock = tmp_path / "wheels", Lock("any")
    write_wheel(wheels, "content = 'as locked'")
    (tmp_path / "requirements.in").write_text("locked")
    offline = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels), "UV_NO_CACHE": "1"}
    uv = str(Path(sys.executable).parent / "uv")
    run([uv, *lock_command(lock, None)[1:]], folder=tmp_path, environment=offline)
    install = [uv, "pip", "install", "--no-deps", "-r", str(tmp_path / "requirements.txt"), "--target"]
    assert "pip install --no-deps -r /opt/requirements.txt" in (ROOT / "images/operator/Dockerfile").read_text()

    run([*install, str(tmp_path / "good")], environment=offline)
    write_wheel(wheels, "content = 'another'")
    with pytest.raises(CommandFailed, match="Hash mismatch"):
        run([*install, str(tmp_path / "bad")], environment=offline)

    assert (tmp_path / "good" / "locked.py").read_text() == "content = 'as locked'"
    assert not (tmp_path / "bad" / "locked.py").exists()
