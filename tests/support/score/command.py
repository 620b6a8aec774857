"""The real service on a socket, the command as a process, and what it reads and writes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.serving.word_engine import TOXIC_WORD, ready

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def service() -> Iterator[httpx.Client]:
    with ready() as client:
        yield client


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Starts `toxicity-score` with arguments in `tmp_path`; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, token: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "toxicity_score", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"API_TOKEN": token},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def text_of(number: int) -> str:
    return f"ты {TOXIC_WORD} {number}" if number % 3 == 0 else f"спасибо, {number}\nи пока"


def write_csv(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "comment"])
        writer.writerows([f"k{number}", text_of(number)] for number in range(rows))
    return path


def arguments(service: httpx.Client, source: object, *more: object) -> list[object]:
    named = ["--input", source, "--output", "out", "--service", service.base_url]
    return [*named, "--text-column", "comment", "--id-column", "key", *more]


def rows_of(folder: Path) -> list[dict[str, str]]:
    found = []
    for path in sorted(folder.glob("part-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += list(csv.DictReader(file))
    return found
