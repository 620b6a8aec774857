"""`toxicity-score` as a process against the real HTTP server: killed at several points, and on a terminal."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import termios
from pathlib import Path

import httpx
import pytest

from support.score.command import Command, arguments, rows_of, text_of, write_csv
from support.serving.word_engine import wait

HIGH = 1 / (1 + math.exp(-1.5))
SECONDS = 120


def test_killed_run_continues_without_losing_or_repeating_a_row(
    service: httpx.Client, command: Command, tmp_path: Path
) -> None:
    rows = 3000
    source, out = write_csv(tmp_path / "comments.csv", rows), tmp_path / "out"
    given = arguments(service, source, "--rows-per-part", 30)
    for parts in (1, 20, 60):
        process = command(*given)
        wait(lambda: len(list(out.glob("part-*.csv"))) >= parts, SECONDS)  # noqa: B023
        process.kill()
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*.csv")}
    assert 60 <= len(before) < 100
    last = command(*given)
    said = last.communicate(timeout=SECONDS)[1]
    assert last.returncode == 0, said
    assert f"skipped={30 * len(before)} " in said
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished parts are not written again"
    found = rows_of(out)
    assert [(row["id"], row["text"]) for row in found] == [(f"k{n}", text_of(n)) for n in range(rows)]
    for number, row in enumerate(found):
        assert (row["label"], row["error"]) == ("1" if number % 3 == 0 else "0", "")
        assert float(row["score"]) == pytest.approx(HIGH if number % 3 == 0 else 1 - HIGH)
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith("part-")) == [
        "journal.json",
        "summary.json",
    ]


def test_terminal_shows_a_bar_instead_of_log_lines(service: httpx.Client, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "comments.csv", 200)
    given = arguments(service, source, "--output", tmp_path / "out")
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (30, 100))
    process = subprocess.Popen([sys.executable, "-m", "toxicity_score", *map(str, given)], stderr=slave)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO is the end of a terminal
        while data := os.read(master, 4096):
            shown += data
    os.close(master)
    assert process.wait(SECONDS) == 0
    assert b"200 rows [" in shown and b"errors=0" in shown
