"""Runs the mutants of one session, each in a fork of a process that has imported the libraries and collected the tests.

The working folder is the copy of the checkout. A mutant is tested by the tests that execute its statement, up to the
first failure: first those that have killed most mutants per second, then the fastest ones. A mutant of what runs when
the module is imported, such as a constant, needs a process that has not imported it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from mutation.baseline import PYTEST, Baseline, read_baseline
from mutation.covering import covering_tests, function_path, is_without_logic, mutated_line
from mutation.patching import patched
from mutation.plugins import Alarm, Chosen, Failures, Loop

FORK = multiprocessing.get_context("fork")
WAITING = 4
"""A mutant is also stopped after this many times its CPU time on the clock, because it may wait for ever."""


class Worker:
    """Tests the mutants of a module."""

    def __init__(
        self, session: Path, module: str, baseline: Baseline, seconds: int, without_logic: Sequence[str]
    ) -> None:
        self.session, self.module, self.baseline, self.seconds = session, module, baseline, seconds
        self.without_logic = without_logic
        self.source = Path(module).read_text(encoding="utf-8")
        self.failure = session / "failed.txt"
        """The test that killed the last mutant."""
        self.kills: Counter[str] = Counter()
        """Killed mutants by test."""
        self.mutated: dict[str, str] = {}
        """The code of each mutant, by the id of its job."""

    def run(self) -> int:
        """Run the mutants that have no result yet. Return the exit status."""
        with self._database() as database:
            self.mutated = {item.job_id: self._mutate(item) for item in database.pending_work_items}
            for job, code in self.mutated.items():
                if is_without_logic(mutated_line(self._diff(code)), self.without_logic):
                    database.set_result(job, self._result(code, survived=True))
            pending = database.pending_work_items
        in_functions = [item for item in pending if self._path(item)]
        process = FORK.Process(target=self._collect, args=(in_functions,))
        process.start()
        process.join()
        with self._database() as database:
            for item in pending:
                if item not in in_functions:
                    database.set_result(item.job_id, self._of_import(item))
        return process.exitcode or 0

    def _collect(self, items: Sequence[WorkItem]) -> None:
        """In a fork: collect the tests, then run the mutants of functions."""
        loop = Loop(functools.partial(self._run_collected, items))
        sys.exit(self._pytest(self.baseline.seconds, loop))

    def _run_collected(self, items: Sequence[WorkItem], collected: Sequence[pytest.Item]) -> None:
        tests = {test.nodeid: test for test in collected}
        module = importlib.import_module(self.module.partition("/src/")[2].removesuffix(".py").replace("/", "."))
        with self._database() as database:
            for item in items:
                mutated = self.mutated[item.job_id]
                chosen = [tests[name] for name in self._covering(item.mutations[0].start_pos[0])]
                try:
                    with patched(module, self._path(item), mutated):
                        survived = not chosen or self._survives(functools.partial(self._run_tests, chosen))
                except SyntaxError:
                    survived = False
                database.set_result(item.job_id, self._result(mutated, survived))

    def _run_tests(self, tests: Sequence[pytest.Item]) -> None:
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            if self.failure.exists():
                sys.exit(1)

    def _of_import(self, item: WorkItem) -> WorkResult:
        """Test a mutant of what runs when the module is imported, with all tests."""
        mutation = item.mutations[0]
        with use_mutation(mutation.module_path, _operator(item), mutation.occurrence):
            tests = sorted(self.baseline.seconds, key=self._rank)
            survived = self._survives(lambda: sys.exit(self._pytest(tests, Chosen(tests))))
        return self._result(self.mutated[item.job_id], survived)

    def _survives(self, run_tests: Callable[[], None]) -> bool:
        """Whether the tests pass in a fork. Tests that take too long count as failed."""
        self.failure.unlink(missing_ok=True)
        process = FORK.Process(target=self._limited, args=(run_tests,))
        process.start()
        process.join(WAITING * self.seconds)
        assert process.pid
        with contextlib.suppress(ProcessLookupError):  # also what a test has started
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        if self.failure.exists():
            self.kills[self.failure.read_text(encoding="utf-8")] += 1
        return process.exitcode == 0

    def _limited(self, run_tests: Callable[[], None]) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (self.seconds, self.seconds))
        run_tests()

    def _pytest(self, tests: Iterable[str], *plugins: object) -> int:
        """Run pytest with the files of the tests, in the order of their first tests."""
        with (self.session / "output.txt").open("wb") as output:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(output.fileno(), sys.stderr.fileno())
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        options = [*PYTEST, f"--basetemp={self.session / 'temporary'}"]
        always = (Failures(self.failure), Alarm(self.baseline.clock))
        return int(pytest.main([*options, *files], plugins=[*always, *plugins]))

    def _covering(self, line: int) -> list[str]:
        executed = {int(number): tests for number, tests in self.baseline.executed[self.module].items()}
        return sorted(covering_tests(self.source, line, executed), key=self._rank)

    def _rank(self, test: str) -> tuple[float, float]:
        seconds = self.baseline.seconds[test]
        return -self.kills[test] / seconds, seconds

    def _path(self, item: WorkItem) -> list[str]:
        return function_path(self.source, item.mutations[0].start_pos[0])

    def _result(self, mutated: str, survived: bool) -> WorkResult:
        outcome = TestOutcome.SURVIVED if survived else TestOutcome.KILLED
        diff = self._diff(mutated)
        return WorkResult(worker_outcome=WorkerOutcome.NORMAL, test_outcome=outcome, diff=diff)

    def _diff(self, mutated: str) -> str:
        return "\n".join(difflib.unified_diff(self.source.splitlines(), mutated.splitlines(), lineterm=""))

    def _mutate(self, item: WorkItem) -> str:
        mutated: str | None = mutate_code(self.source, _operator(item), item.mutations[0].occurrence)
        assert mutated is not None, f"{item} does not occur in {self.module}"
        return mutated

    def _database(self) -> contextlib.AbstractContextManager[WorkDB]:
        database: contextlib.AbstractContextManager[WorkDB] = use_db(
            str(self.session / "session.sqlite"), WorkDB.Mode.open
        )
        return database


def _operator(item: WorkItem) -> object:
    return get_operator(item.mutations[0].operator_name)(**item.mutations[0].operator_args)


def import_libraries(names: Iterable[str]) -> None:
    """Import the modules, except those that exist only while another one runs."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main() -> int:
    """Run the mutants of the session that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--session", type=Path, required=True, help="folder with session.sqlite")
    parser.add_argument("--module", required=True)
    parser.add_argument("--baseline", type=Path, required=True, help="file that baseline.py wrote")
    parser.add_argument("--seconds", type=int, required=True, help="CPU time limit of a mutant")
    parser.add_argument("without_logic", nargs="*", help="patterns of mutated lines that need no test")
    options = parser.parse_args()
    baseline = read_baseline(options.baseline)
    import_libraries(baseline.libraries)
    return Worker(options.session, options.module, baseline, options.seconds, options.without_logic).run()


if __name__ == "__main__":
    sys.exit(main())
