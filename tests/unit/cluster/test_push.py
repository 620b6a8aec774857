"""The prefix below which images are pushed, and the files that name them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.chart import image_reference
from toxicity_cluster.demo_install import CHART_IMAGES
from toxicity_cluster.errors import Refusal
from toxicity_cluster.push import registry_prefix, write_files

IMAGES = {
    part: f"registry.example/team/toxicity-{part}:1{part}" for part in (*CHART_IMAGES, "base-model", "dataset")
}


@pytest.mark.parametrize("given", ["registry.example", "registry.example:5000/team", "localhost:5000/a/b-c/"])
def test_a_prefix_is_a_host_and_a_path(given: str) -> None:
    assert registry_prefix(given) == given.rstrip("/")


@pytest.mark.parametrize(
    "given", ["", "https://registry.example", "registry.example/Team", "registry.example/team:1", "a b", "-/x y"]
)
def test_anything_else_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(Refusal, match=r"REGISTRY is .*: set it to .* registry\.example/team"):
        registry_prefix(given)


def test_values_and_sample_name_the_pushed_images(tmp_path: Path) -> None:
    awq = {"quantization-autoawq": "registry.example/team/toxicity-quantization-autoawq:9"}
    files = write_files(tmp_path / "new", IMAGES | awq, Path("mine.csv.gz"))
    values, sample = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)

    assert set(values["images"]) == {*CHART_IMAGES, "quantizationAutoawq"}
    assert {part: image_reference(values["images"][part]) for part in CHART_IMAGES} == {
        part: IMAGES[part] for part in CHART_IMAGES
    }
    assert values["images"]["quantizationAutoawq"] == {
        "registry": "registry.example",
        "repository": "team/toxicity-quantization-autoawq",
        "tag": "9",
    }
    without = write_files(tmp_path / "without", IMAGES, Path("mine.csv.gz"))[0].read_text(encoding="utf-8")
    assert yaml.safe_load(without)["images"]["quantizationAutoawq"] == {"repository": ""}
    assert "imagePullSecrets" not in values and "images" not in sample["spec"]
    assert sample["spec"]["dataset"]["image"] == {
        "reference": IMAGES["dataset"],
        "path": "/dataset/comments.csv.gz",
    }
    assert sample["spec"]["baseModel"]["image"]["reference"] == IMAGES["base-model"]


def test_values_and_sample_name_the_pull_secrets(tmp_path: Path) -> None:
    files = write_files(tmp_path, IMAGES, Path("mine.csv"), ["registry", "mirror"])
    values, sample = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    assert values["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    assert sample["spec"]["images"]["pullSecrets"] == ["registry", "mirror"]
