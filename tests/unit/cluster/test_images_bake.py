"""docker-bake.json describes the builds of this project's own builder: the same graph, arguments, files and labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from toxicity_cluster.images import plan_recipes
from toxicity_cluster.images_bake import LOCAL, VARIABLES, bake_document, bake_text
from toxicity_cluster.images_base import CPU_INDEX
from toxicity_cluster.images_parts import PARENTS, PARTS

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "manifests" / "samples" / "data" / "comments.csv"
DOCUMENT = bake_document()
TARGETS: dict[str, dict[str, Any]] = DOCUMENT["target"]


def test_the_file_is_the_generated_one() -> None:
    assert (ROOT / "docker-bake.json").read_text(encoding="utf-8") == bake_text()


def test_groups_have_what_pods_run_and_the_optional_image_on_request() -> None:
    groups = {name: set(group["targets"]) for name, group in DOCUMENT["group"].items()}
    assert TARGETS.keys() == {part.name for part in PARTS} - LOCAL
    assert groups["all"] == TARGETS.keys() - PARENTS
    assert groups["all"] - groups["default"] == {"quantization-autoawq"}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_the_parents_and_arguments_of_the_builder(name: str) -> None:
    recipes = {r.part.name: r for r in plan_recipes(ROOT, [], SAMPLE, CPU_INDEX, "docker", "${PYTHON_IMAGE}")}
    target, recipe = TARGETS[name], recipes[name]
    references = {recipes[parent].reference: parent for parent in target["contexts"]}
    own = {"TORCH_SOURCE": "${TORCH_SOURCE}", "ENGINE": "${ENGINE}"}
    plain = {key: value for key, value in target["args"].items() if own.get(key) != value}
    built = {key: references.get(value, value) for key, value in recipe.arguments.items() if key != "TORCH_BUILD"}
    assert plain == built
    assert target["contexts"] == {parent: f"target:{parent}" for parent in references.values()}
    assert target["dockerfile"] == recipe.part.dockerfile
    assert all((ROOT / path).exists() for path in recipe.part.paths)


@pytest.mark.parametrize("name", TARGETS)
def test_a_dockerfile_declares_every_argument(name: str) -> None:
    text = (ROOT / TARGETS[name]["dockerfile"]).read_text()
    declared = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    assert TARGETS[name]["args"].keys() <= declared.keys()
    same = {key: VARIABLES[key] for key in ("PYTHON_IMAGE", "TORCH_SOURCE", "ENGINE") if key in declared}
    assert {key: declared[key] for key in same} == same


def test_every_variable_is_used_and_declared() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", bake_text()))
    assert used == VARIABLES.keys()


def test_images_have_labels_and_tags_of_their_own() -> None:
    assert len({target["tags"][0] for target in TARGETS.values()}) == len(TARGETS)
    descriptions = {target["labels"]["org.opencontainers.image.description"] for target in TARGETS.values()}
    assert len(descriptions) == len(TARGETS)
    licences = {name: target["labels"]["org.opencontainers.image.licenses"] for name, target in TARGETS.items()}
    assert licences.pop("base-model") == "LicenseRef-Gemma"
    assert set(licences.values()) == {"Apache-2.0"}


def test_page_has_every_image_with_its_limit_and_every_variable() -> None:
    page = (ROOT / "docs" / "how-to" / "images.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| ([\d.]+) \| (\d+) \|$", page, re.MULTILINE)
    assert {(name, text, int(limit)) for name, text, _, limit in rows} == {
        (part.name, part.description, part.limit_mb) for part in PARTS
    }
    assert all(float(size) <= int(limit) for _, _, size, limit in rows)
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []
