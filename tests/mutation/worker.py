"""Runs the mutants of one session. Each is tested in a fork of a process that has the libraries already imported.

The working folder is the copy of the checkout. A first run of all tests, without a mutation, shows which tests execute
which lines. A mutant is tested by those that execute its line, the fastest first, up to the first failure.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from coverage import Coverage

from mutation.covering import covering_tests

FORK = multiprocessing.get_context("fork")


@dataclass
class Baseline:
    """A run of the tests without a mutation: what the choice of tests for a mutant depends on."""

    seconds: dict[str, float] = field(default_factory=dict)
    """By test."""
    executed: dict[int, list[str]] = field(default_factory=dict)
    """The tests that execute a line of the module."""
    libraries: list[str] = field(default_factory=list)
    """The modules outside the checkout that the tests import."""

    def ranked(self, tests: set[str] | None) -> list[str]:
        """The tests, or all if None, the fastest first."""
        return sorted(self.seconds if tests is None else tests, key=self.seconds.__getitem__)


class Recorder:
    """A pytest plugin that fills a baseline."""

    def __init__(self, module: str) -> None:
        self.coverage = Coverage(data_file=None, config_file=False, include=[module])
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.coverage.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began
            self.coverage.switch_context("")


class Chosen:
    """A pytest plugin that keeps the chosen tests of those collected, in the order of the choice."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {test: index for index, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.place), key=self._place)

    def _place(self, item: pytest.Item) -> int:
        return self.place[item.nodeid]


def main() -> int:
    """Run the mutants that have no result yet. The exit status is 1 if the tests fail without a mutation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--session", type=Path, required=True, help="folder with session.sqlite")
    parser.add_argument("--module", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="time limit of a mutant")
    parser.add_argument("tests", nargs="+")
    options = parser.parse_args()
    worker = Worker(options.session, options.module, options.seconds)
    if not worker.measure(options.tests):
        return 1
    with use_db(str(options.session / "session.sqlite"), WorkDB.Mode.open) as database:
        for item in database.pending_work_items:
            database.set_result(item.job_id, worker.result(item.mutations[0]))
    return 0


class Worker:
    """Forks a process for each run of tests."""

    def __init__(self, session: Path, module: str, seconds: float) -> None:
        self.session, self.module, self.seconds = session, module, seconds
        self.source = Path(module).read_text(encoding="utf-8")
        self.baseline = Baseline()

    def measure(self, tests: Sequence[str]) -> bool:
        """Run the tests without a mutation, then import their libraries. Returns whether all tests pass."""
        process = FORK.Process(target=self._measure, args=(tests,))
        process.start()
        process.join()
        if process.exitcode:
            print(self._output_file.read_text(encoding="utf-8"), file=sys.stderr)
            return False
        found = json.loads(self._baseline_file.read_text(encoding="utf-8"))
        executed = {int(line): names for line, names in found["executed"].items()}
        self.baseline = Baseline(found["seconds"], executed, found["libraries"])
        for name in self.baseline.libraries:
            with contextlib.suppress(ImportError):  # some names are not those of files
                importlib.import_module(name)
        return True

    def result(self, mutation: MutationSpec) -> WorkResult:
        """Whether the tests notice the mutation. A mutant whose tests take too long counts as noticed."""
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        tests = self.baseline.ranked(covering_tests(self.source, mutation.start_pos[0], self.baseline.executed))
        with use_mutation(mutation.module_path, operator, mutation.occurrence) as (code, mutated):
            survived = not tests or self._passes(tests)
        return WorkResult(
            worker_outcome=WorkerOutcome.NORMAL,
            test_outcome=TestOutcome.SURVIVED if survived else TestOutcome.KILLED,
            diff="\n".join(difflib.unified_diff(code.splitlines(), (mutated or code).splitlines(), lineterm="")),
        )

    @property
    def _baseline_file(self) -> Path:
        return self.session / "baseline.json"

    @property
    def _output_file(self) -> Path:
        """What the last run of tests printed."""
        return self.session / "output.txt"

    def _passes(self, tests: Sequence[str]) -> bool:
        process = FORK.Process(target=self._test, args=(tests,))
        process.start()
        process.join(self.seconds)
        if process.is_alive() and process.pid:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        return process.exitcode == 0

    def _measure(self, tests: Sequence[str]) -> None:
        """In a fork: run the tests and write the baseline."""
        recorder = Recorder(self.module)
        recorder.coverage.start()
        status = self._pytest(tests, recorder)
        recorder.coverage.stop()
        executed = recorder.coverage.get_data().contexts_by_lineno(str(Path(self.module).resolve()))
        libraries = [name for name, module in sys.modules.items() if _is_library(module)]
        baseline = {"seconds": recorder.seconds, "executed": executed, "libraries": libraries}
        self._baseline_file.write_text(json.dumps(baseline), encoding="utf-8")
        sys.exit(status)

    def _test(self, tests: Sequence[str]) -> None:
        """In a fork: run these tests in this order."""
        os.setsid()  # so that a process that a test started is stopped with it
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        sys.exit(self._pytest(list(files), Chosen(tests)))

    def _pytest(self, paths: Sequence[str], plugin: object) -> int:
        with self._output_file.open("wb") as output:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(output.fileno(), sys.stderr.fileno())
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not dataset"]
        return int(pytest.main([*options, *paths], plugins=[plugin]))


def _is_library(module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and not Path(file).is_relative_to(Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
