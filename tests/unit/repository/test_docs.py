"""What `mkdocs build --strict` does not check: links of the README, paths that pages name, generated pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toxicity_reference.__main__ import FILES, main

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
TEN_CHANGES = DOCS / "explanation" / "ten-changes.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")
REPOSITORY_PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/[\w.-]*)`")
PAGE = re.compile(r"\bdocs/[\w/-]+\.md\b")
SOURCES = (
    "cluster/src",
    "helm",
    "loadtest/src",
    "manifests",
    "operator/src",
    "serving/src",
    "storage/src",
    "training-job/src",
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> list[str]:
    """Targets of links to files, without anchors."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link.split("#")[0] for link in LINK.findall(text) if not link.startswith(("http", "#"))]


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MkDocs derive them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_of_the_readme_exist() -> None:
    links = links_of(ROOT / "README.md")
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_anchors_of_the_readme_exist() -> None:
    links = re.findall(r"\]\(([\w/.-]+\.md)#([\w-]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [f"{page}#{anchor}" for page, anchor in links if anchor not in anchors_of(ROOT / page)] == []


def test_pages_that_the_sources_name_exist() -> None:
    files = [
        path for part in SOURCES for path in (ROOT / part).rglob("*") if path.suffix in (".py", ".yaml", ".tpl")
    ]
    named = {(path, page) for path in files for page in PAGE.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 3
    assert [f"{path}: {page}" for path, page in named if not (ROOT / page).is_file()] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 100


def test_ten_changes_name_paths_that_exist() -> None:
    text = TEN_CHANGES.read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE)[:10] == [str(number) for number in range(1, 11)]
    paths = REPOSITORY_PATH.findall(text)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_decision_is_listed() -> None:
    listed = {Path(link).name for link in links_of(DOCS / "explanation" / "decisions.md")}
    assert {path.name for path in (DOCS / "adr").glob("*.md")} <= listed


def test_generated_pages_are_up_to_date() -> None:
    assert main(["--check", str(ROOT)]) == 0


@pytest.mark.parametrize("name", FILES)
def test_stale_page_is_reported(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", str(tmp_path)]) == 0
    (tmp_path / name).write_text("", encoding="utf-8")
    assert main(["--check", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{tmp_path / name} is stale: run `make generate`\n"
