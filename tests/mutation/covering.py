"""Finds out about a mutated line: which function it belongs to, and which tests execute it.

Other tests cannot notice the mutant, so they need not run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping


def function_path(source: str, line: int) -> list[str]:
    """The names of the classes around a line, then of the outermost function.

    Empty if the line runs when the module is imported, as decorators and default arguments do. Line numbers begin at 1.
    """
    names = []
    for node in _around(source, line):
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return [*names, node.name] if node.body[0].lineno <= line else []
    return []


def covering_tests(source: str, line: int, executed: Mapping[int, Collection[str]]) -> set[str]:
    """The tests that execute the statement of a line. `executed` has the tests of each executed line."""
    *_, innermost = _around(source, line)
    return {test for number in _own_lines(innermost) for test in executed.get(number, ())}


def _around(source: str, line: int) -> Iterator[ast.stmt]:
    """The statements around a line, from the outermost to the innermost."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt))
    return (node for node in nodes if node.lineno <= line <= (node.end_lineno or node.lineno))


def _own_lines(statement: ast.stmt) -> range:
    """The lines of a statement without those of the statements inside it."""
    body: list[ast.stmt] = getattr(statement, "body", [])
    end = body[0].lineno if body else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, max(end, statement.lineno + 1))


def mutated_line(diff: str) -> str:
    """The line that a mutation added, without its indentation."""
    added = [line for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return added[0][1:].strip() if added else ""


def is_without_logic(line: str, patterns: Iterable[str]) -> bool:
    """Whether a line begins like one of the patterns, so that no behaviour depends on it."""
    return any(re.match(pattern, line) for pattern in patterns)
