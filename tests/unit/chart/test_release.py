"""The chart that a release packages: the workflow's own step, run in a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import CHART, ROOT, Document, environment, operator_container, render_chart

STEP = "Package the chart with the released images"
REPOSITORY = "https://github.com/Team/toxicity"
PREFIX = "ghcr.io/team/toxicity"
VERSION: str = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]


@dataclass(frozen=True)
class Package:
    """What the step printed, and the unpacked chart."""

    said: str
    chart: Path

    @property
    def metadata(self) -> Document:
        return self.load("Chart.yaml")

    def load(self, name: str) -> Document:
        found: Document = yaml.safe_load((self.chart / name).read_text())
        return found


def script() -> str:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yaml").read_text())
    (found,) = (step["run"] for step in workflow["jobs"]["chart"]["steps"] if step.get("name") == STEP)
    return str(found)


@pytest.fixture(scope="module")
def package(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(CHART, folder / CHART.relative_to(ROOT))
    given = {
        "REGISTRY": "ghcr.io",
        "PREFIX": PREFIX,
        "VERSION": VERSION,
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "Team/toxicity",
        "GITHUB_REF_NAME": f"v{VERSION}",
        "PATH": f"{Path(helm).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", script()], cwd=folder, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(folder / f"toxicity-operator-{VERSION}.tgz") as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return Package(done.stdout, folder / "unpacked" / "toxicity-operator")


def test_lint_finds_nothing_to_recommend(package: Package) -> None:
    assert "[INFO]" not in package.said
    assert "0 chart(s) failed" in package.said


def test_chart_says_where_it_comes_from(package: Package) -> None:
    metadata = package.metadata
    assert (metadata["home"], metadata["sources"]) == (REPOSITORY, [REPOSITORY])
    path = metadata["icon"].removeprefix(f"{REPOSITORY}/raw/v{VERSION}/")
    assert (ROOT / path).read_text().startswith("<svg ")
    assert all(entry["name"] for entry in metadata["maintainers"])
    assert (
        f"oci://{PREFIX}/charts/toxicity-operator --version {VERSION}" in (package.chart / "README.md").read_text()
    )


def test_images_are_the_released_ones(package: Package, helm: str) -> None:
    container = operator_container(render_chart(helm, chart=package.chart))
    images = {value for name, value in environment(container).items() if name.startswith("IMAGE_")}
    parts = ("training", "quantization", "quantization-autoawq", "serving", "loadtest", "operator")
    expected = {f"{PREFIX}/toxicity-{part}:{VERSION}" for part in parts}
    assert images | {container["image"]} == expected
    listed = yaml.safe_load(package.metadata["annotations"]["artifacthub.io/images"])
    assert {entry["image"] for entry in listed} == expected


def test_annotations_describe_the_crd() -> None:
    annotations: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    crd = yaml.safe_load((CHART / "files" / "toxicitymodels.yaml").read_text())
    (described,) = yaml.safe_load(annotations["artifacthub.io/crds"])
    spec = crd["spec"]
    assert (described["kind"], described["name"]) == (spec["names"]["kind"], crd["metadata"]["name"])
    assert [described["version"]] == [version["name"] for version in spec["versions"]]
