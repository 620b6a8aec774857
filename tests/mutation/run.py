"""Mutation tests of the pure modules with cosmic-ray: how many small changes of the code do the unit tests notice?

Each module is mutated in a copy of the checkout: baseline.py finds the tests that can kill a mutant, and worker.py runs
them. The work folder keeps the results of a module under a hash of the module, its tests and the operators. An
interrupted run continues; a change of any of them starts the module again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmic_ray.plugins import operator_names
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome

from mutation.covering import is_without_logic, mutated_line

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path(__file__).with_name("modules.toml")
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
MEASURING = threading.Lock()


@dataclass
class Score:
    """What became of the mutants of one module."""

    module: str
    killed: int = 0
    equivalent: int = 0
    unfinished: int = 0
    survivors: list[str] = field(default_factory=list)
    """Diffs of the mutants that all tests pass and that equivalent.toml does not list."""

    @property
    def percent(self) -> float:
        """Killed mutants in percent of those that a test can kill; 100 without any."""
        counted = self.killed + len(self.survivors)
        return 100.0 * self.killed / counted if counted else 100.0

    def __str__(self) -> str:
        return (
            f"{self.module:<58}{self.killed:>7}{len(self.survivors):>10}{self.equivalent:>12}"
            f"{self.unfinished:>12}{self.percent:>9.1f}"
        )


HEADER = f"{'module':<58}{'killed':>7}{'survived':>10}{'equivalent':>12}{'unfinished':>12}{'percent':>9}"


def main() -> int:
    """Run what the arguments select and return the exit status: 1 when a module has too few killed mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for copies and sessions")
    parser.add_argument(
        "--report", action="store_true", help="print the table of finished mutants and run nothing"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="modules at the same time (default: as many as cores)"
    )
    parser.add_argument(
        "modules", nargs="*", help="names (quality) or ends of paths (decide/quality.py); default: all"
    )
    options = parser.parse_args()
    configuration = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))
    chosen = select(configuration["modules"], options.modules)

    def scored(module: str) -> Score:
        session = prepare(module, configuration, options.work.resolve())
        if not options.report:
            execute(session, module, configuration)
        return score(module, session / "session.sqlite", configuration["without_logic"])

    scores: list[Score] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(scored, chosen):
            print(found, flush=True)
            scores.append(found)
    print_table(scores)
    too_few = [
        each.module for each in scores if each.percent < configuration["minimum_percent"] or each.unfinished
    ]
    if too_few:
        print(f"below {configuration['minimum_percent']} % or unfinished: {', '.join(too_few)}")
    return 1 if too_few else 0


def select(modules: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """The configured modules that are wanted, all without a wish. Exits with the name that selects nothing."""
    known = list(modules)
    found: list[str] = []
    for name in wanted:
        matches = [path for path in known if Path(path).stem == name or path.endswith(f"/{name}")]
        if not matches:
            sys.exit(f"{name}: no such module in {CONFIGURATION.relative_to(ROOT)}")
        found += matches
    return found or known


def prepare(module: str, configuration: dict[str, Any], work: Path) -> Path:
    """Make the module's session folder, if it is not there: the configuration and the list of mutants."""
    tests: list[str] = configuration["modules"][module]
    settings = json.dumps([configuration["operators"], configuration["mutant_seconds"], tests])
    session = work / f"{Path(module).stem}-{content_hash(settings, [module, *tests])}"
    session.mkdir(parents=True, exist_ok=True)
    config = session / "cosmic-ray.toml"
    config.write_text(cosmic_ray_toml(module, configuration), encoding="utf-8")
    database = session / "session.sqlite"
    if not database.exists():
        # the name appears with the last mutant, so that an interrupted run leaves no partial list
        partial = session / "partial.sqlite"
        partial.unlink(missing_ok=True)
        run_python(ROOT, "cosmic_ray.cli", "init", str(config), str(partial))
        run_python(ROOT, "cosmic_ray.tools.filters.operators_filter", str(partial), str(config))
        partial.rename(database)
    return session


def content_hash(settings: str, paths: Iterable[str]) -> str:
    """A hash of the settings, of the files, and of the Python files in the folders."""
    digest = hashlib.sha256(settings.encode())
    for path in (ROOT / name for name in paths):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def copy_checkout(tree: Path) -> None:
    """Copy what git tracks or would add. An interrupted run may have left a mutated module in the old copy."""
    shutil.rmtree(tree, ignore_errors=True)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def cosmic_ray_toml(module: str, configuration: dict[str, Any]) -> str:
    """The configuration with which cosmic-ray lists the mutants. The worker runs the tests, so there is no command."""
    used = "|".join(configuration["operators"]["use"])
    excluded = [name for name in operator_names() if not re.fullmatch(f"core/({used})", name)]
    return "\n".join(
        (
            "[cosmic-ray]",
            f"module-path = {json.dumps(module)}",
            f"timeout = {configuration['mutant_seconds']}",
            "excluded-modules = []",
            'test-command = ""',
            "[cosmic-ray.filters.operators-filter]",
            f"exclude-operators = {json.dumps([f'{name}$' for name in excluded])}",
            "",
        )
    )


def execute(session: Path, module: str, configuration: dict[str, Any]) -> None:
    """Run those mutants that have no result yet, after a run of the tests without a mutation."""
    with use_db(session / "session.sqlite", WorkDB.Mode.open) as found:
        if not list(found.pending_work_items):
            return
    copy_checkout(session / "tree")
    baseline = measure(session, configuration["modules"], configuration["modules"][module])
    where = ("--session", str(session), "--module", module, "--baseline", str(baseline))
    limits = ("--seconds", str(configuration["mutant_seconds"]), *configuration["without_logic"])
    run_python(session / "tree", "mutation.worker", *where, *limits)


def measure(session: Path, modules: Mapping[str, Sequence[str]], tests: Sequence[str]) -> Path:
    """Run the tests without a mutation, unless the work folder has the result for these tests and sources."""
    observed = [module for module, nearest in modules.items() if list(nearest) == list(tests)]
    arguments = [*(f"--module={module}" for module in observed), *tests]
    code = [str(path.relative_to(ROOT)) for path in (*ROOT.glob("*/src"), ROOT / "tests" / "support")]
    recorder = str(Path(__file__).with_name("baseline.py").relative_to(ROOT))
    file = session.parent / f"baseline-{content_hash(json.dumps(arguments), [recorder, *code, *tests])}.json"
    with MEASURING:  # modules with the same tests share the result
        if not file.exists():
            run_python(session / "tree", "mutation.baseline", "--output", str(file), *arguments)
    return file


def run_python(folder: Path, program: str, *arguments: str) -> None:
    """Run a Python program in a checkout, which its imports come from. Exits when it fails."""
    paths = [*sorted(folder.glob("*/src")), folder / "tests"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant may have the size and the second of the file that it replaces
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-m", program, *arguments], cwd=folder, env=environment)
    if done.returncode:
        sys.exit(f"{program} {' '.join(arguments)} failed")


def score(module: str, database: Path, without_logic: Sequence[str]) -> Score:
    """Count the results of a session; lines that match a pattern of `without_logic` count as equivalent."""
    accepted = [
        mutant["line"]
        for mutant in tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
        if mutant["module"] == module
    ]
    found = Score(module)
    with use_db(database, WorkDB.Mode.open) as results:
        found.unfinished = len(list(results.pending_work_items))
        for _, result in results.results:
            line = mutated_line(result.diff or "")
            if result.worker_outcome == WorkerOutcome.SKIPPED:
                continue
            if result.test_outcome != TestOutcome.SURVIVED:
                found.killed += 1
            elif line in accepted or is_without_logic(line, without_logic):
                found.equivalent += 1
            else:
                found.survivors.append(result.diff or "")
    return found


def print_table(scores: Sequence[Score]) -> None:
    """Print the diffs of the survivors, then a line for each module and one for all."""
    for each in scores:
        for diff in each.survivors:
            print("\n".join(diff.splitlines()[2:]), end="\n\n")
    print(HEADER)
    total = Score("all")
    for each in scores:
        print(each)
        total.killed += each.killed
        total.equivalent += each.equivalent
        total.unfinished += each.unfinished
        total.survivors += each.survivors
    print(total)


if __name__ == "__main__":
    sys.exit(main())
