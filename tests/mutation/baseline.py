"""Runs tests without a mutation, and writes which tests execute which lines of the modules."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from coverage import Coverage

PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not dataset")
"""Arguments of each run. The data set is not part of the repository."""


@dataclass(frozen=True)
class Baseline:
    """What the choice of tests for a mutant depends on."""

    seconds: Mapping[str, float]
    """CPU time by test."""

    clock: Mapping[str, float]
    """Seconds on the clock by test."""

    executed: Mapping[str, Mapping[str, Sequence[str]]]
    """By module and line: the tests that execute it."""

    libraries: Sequence[str]
    """The modules outside the checkout that the tests import."""


class Recorder:
    """A pytest plugin that measures time and coverage of each test."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = modules
        self.coverage = Coverage(data_file=None, config_file=False, include=list(modules))
        self.seconds: dict[str, float] = {}
        self.clock: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.coverage.switch_context(item.nodeid)
        began, at = time.process_time(), time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - began
            self.clock[item.nodeid] = time.monotonic() - at
            self.coverage.switch_context("")

    def executed(self) -> dict[str, dict[str, list[str]]]:
        """By module and line: the tests. What threads execute between two tests belongs to none."""
        data = self.coverage.get_data()
        lines = {module: data.contexts_by_lineno(str(Path(module).resolve())) for module in self.modules}
        return {
            module: {str(line): list(filter(None, tests)) for line, tests in found.items()}
            for module, found in lines.items()
        }


def main() -> int:
    """Measure what the arguments name and return pytest's exit status. The file is written only if all tests pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--module", action="append", required=True, help="path of a module to observe")
    parser.add_argument("tests", nargs="+")
    options = parser.parse_args()
    recorder = Recorder(options.module)
    recorder.coverage.start()
    status = int(pytest.main([*PYTEST, *options.tests], plugins=[recorder]))
    recorder.coverage.stop()
    if status == 0:
        libraries = [name for name, module in sys.modules.items() if _is_library(module)]
        found = Baseline(recorder.seconds, recorder.clock, recorder.executed(), libraries)
        options.output.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return status


def read_baseline(path: Path) -> Baseline:
    """The baseline that `main` wrote."""
    return Baseline(**json.loads(path.read_text(encoding="utf-8")))


def _is_library(module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and not Path(file).is_relative_to(Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
