"""The configuration of `make mutation` names files that exist."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "mutation"


def test_modules_and_their_tests_exist() -> None:
    modules = tomllib.loads((FOLDER / "modules.toml").read_text(encoding="utf-8"))["modules"]
    paths = [path for module, tests in modules.items() for path in (module, *tests)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_accepted_mutants_are_of_these_modules() -> None:
    modules = tomllib.loads((FOLDER / "modules.toml").read_text(encoding="utf-8"))["modules"]
    mutants = tomllib.loads((FOLDER / "equivalent.toml").read_text(encoding="utf-8"))["mutant"]
    assert {mutant["module"] for mutant in mutants} <= set(modules)
