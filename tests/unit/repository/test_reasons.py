"""docs/reference/conditions.md has every reason that a condition can carry, and what to do about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from toxicity_api.conditions import ConditionType, Reason
from toxicity_operator.decide.kstatus import KSTATUS_OF_REASON, KStatus
from toxicity_store import errors

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text(encoding="utf-8")
STAGES = ("training-job/src", "loadtest/src", "storage/src")
CAMEL = re.compile(r"[A-Z][A-Za-z0-9]+")
COMMAND_LINES = ("experiments", "folds", "quality", "baseline")
"""Modules and packages of training that are not part of a stage: their errors never reach a condition."""


def stage_reasons() -> Iterator[str]:
    """First arguments of raised input errors, and `reason`s and `crash_reason`s, wherever a stage has them."""
    for part in STAGES:
        for path in sorted((ROOT / part).rglob("*.py")):
            if any(name.startswith(COMMAND_LINES) for name in path.relative_to(ROOT / part).parts):
                continue
            yield from _reasons_of(ast.parse(path.read_text(encoding="utf-8")))


def _reasons_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _is_error(node.func.id):
            yield from _texts(node.args[:1])
        if isinstance(node, ast.Call):
            yield from _texts(word.value for word in node.keywords if word.arg == "crash_reason")
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "reason" for t in node.targets
        ):
            yield from _texts([node.value])


def _is_error(name: str) -> bool:
    return name.endswith("Error") or isinstance(getattr(errors, name, None), type)


def _texts(nodes: object) -> Iterator[str]:
    for node in nodes:  # type: ignore[attr-defined]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CAMEL.fullmatch(node.value):
            yield node.value


REASONS = sorted({str(reason) for reason in Reason} | set(stage_reasons()))


def test_reasons_are_found_in_every_part() -> None:
    assert {
        "MissingColumn",
        "GroupSizeDoesNotFit",
        "EvaluationCrashed",
        "ServiceNotReady",
        "BucketMissing",
    } <= set(REASONS)


@pytest.mark.parametrize(
    ("row", "outlook"),
    [("`Reconciling`", KStatus.IN_PROGRESS), ("`Stalled`", KStatus.STALLED), ("neither", KStatus.PAUSED)],
)
def test_page_has_every_reason_of_a_kstatus_condition(row: str, outlook: KStatus) -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {row} | `"))
    named = set(re.findall(r"`(\w+)`", line.removeprefix(f"| {row}")))
    assert named == {str(reason) for reason, found in KSTATUS_OF_REASON.items() if found is outlook}


@pytest.mark.parametrize("reason", REASONS)
def test_reason_is_explained(reason: str) -> None:
    assert f"`{reason}`" in PAGE, f"docs/reference/conditions.md does not say what to do about {reason}"


FROM_KUBERNETES = {"BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"}
"""Reasons that the Job controller gives and a condition passes on."""


def first_cells(heading: str) -> set[str]:
    """Names in the first column of the tables below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_page_explains_no_reason_that_the_code_lacks() -> None:
    sections = (
        "Reasons of the operator",
        "Reasons of a refused input",
        "Reasons of the object store",
        "Reasons of the load test",
    )
    explained = set[str]().union(*map(first_cells, sections))
    assert {str(reason) for reason in Reason} <= explained
    sources = "".join(p.read_text(encoding="utf-8") for part in STAGES for p in (ROOT / part).rglob("*.py"))
    assert [r for r in explained - FROM_KUBERNETES if r not in REASONS and f'"{r}"' not in sources] == []


def test_page_has_every_condition_type() -> None:
    assert first_cells("Types") == {str(kind) for kind in ConditionType}
