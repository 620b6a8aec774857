"""A test that cannot run fails or is deselected by its marker: a skipped one would look like one that passed."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
SKIPS = re.compile(r"pytest\.(skip|importorskip|mark\.skip)|unittest\.skip|SkipTest")


def test_no_test_skips() -> None:
    files = [path for path in TESTS.rglob("*.py") if path != Path(__file__).resolve()]
    assert len(files) > 100
    assert [str(path.relative_to(TESTS)) for path in files if SKIPS.search(path.read_text())] == []
