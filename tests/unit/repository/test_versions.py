"""The distributions and the chart have one version, and the product's wheel holds only the product."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "toxicity-operator"


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def test_the_distributions_and_the_chart_have_one_version() -> None:
    version = project(ROOT)["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    versions = {project(ROOT / "cluster")["project"]["version"], chart["version"], chart["appVersion"]}
    assert versions == {version}


def test_the_changelog_has_a_section_for_the_version() -> None:
    version = project(ROOT)["project"]["version"]
    headings = re.findall(
        r"^## \[(\S+)\] - (Unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert headings[0][0] == version


def test_the_wheel_of_the_product_holds_every_package_but_the_embedded_cluster() -> None:
    packages = project(ROOT)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    sources = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/src/*/__init__.py")}
    assert set(packages) == sources - {"cluster/src/toxicity_cluster"}
    assert len(packages) == len(set(packages))
