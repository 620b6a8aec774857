"""Gives a loaded function the code of a mutant, so that nothing has to be imported again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType


@contextmanager
def patched(module: ModuleType, path: Sequence[str], source: str) -> Iterator[None]:
    """Run the function at `path` (names of classes, then of the function) with its code in `source`, another source.

    Functions that were imported from the module are the same objects, so they change too. Raises SyntaxError.
    """
    code = compile(source, str(module.__file__), "exec", dont_inherit=True)
    found: object = module
    for name in path:
        found = inspect.getattr_static(found, name)
        code = next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name)
    function = _plain(found)
    before, function.__code__ = function.__code__, code
    try:
        yield
    finally:
        function.__code__ = before


def _plain(found: object) -> FunctionType:
    """The function of a property, a method or a decorated function."""
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, functools.cached_property):
        found = found.func
    elif isinstance(found, staticmethod | classmethod):
        found = found.__func__
    plain = inspect.unwrap(found) if callable(found) else found
    assert isinstance(plain, FunctionType), f"{found!r} has no code"
    return plain
