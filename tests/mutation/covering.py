"""Finds the tests that execute a line. The others cannot notice a mutant of that line, so they need not run."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping


def covering_tests(source: str, line: int, executed: Mapping[int, Collection[str]]) -> set[str] | None:
    """The tests that execute the statement of a line. None if the statement runs when the module is imported.

    `executed` has the tests of each executed line. Line numbers begin at 1.
    """
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    is_in_function = any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.body[0].lineno <= line for node in around
    )
    if not is_in_function:
        return None
    innermost = max(around, key=lambda node: node.lineno)
    return {test for number in _own_lines(innermost) for test in executed.get(number, ())}


def _own_lines(statement: ast.stmt) -> range:
    """The lines of a statement without those of the statements inside it."""
    body: list[ast.stmt] = getattr(statement, "body", [])
    end = body[0].lineno if body else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, max(end, statement.lineno + 1))
