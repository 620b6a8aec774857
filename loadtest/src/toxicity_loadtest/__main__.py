"""Run the load test, configured by the environment variable STAGE_CONFIG.

With `--local` it prints the status to standard output instead of writing it to a cluster. A failure is written to the
status and to the result document. A run with failed requests still completes, and its figures count the failures.
With several workers, the process with index 0 (JOB_COMPLETION_INDEX) is the master, which writes the status. The other
processes offer the load.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import LoadTestConfig, StageConfigError, parse_stage_config
from toxicity_loadtest.errors import LoadTestError, Terminated, describe_crash, log_crash
from toxicity_store.client import add_secrets_argument

if TYPE_CHECKING:
    from toxicity_loadtest.stage import LoadTest

TERMINATION_LOG = Path("/dev/termination-log")
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
READY_SECONDS = 60.0
REQUEST_SECONDS = 30.0
CALIBRATION_SECONDS = 1.0
WORKERS_SECONDS = 300.0
FAILURE_SECONDS = 10.0
"""Time to write the last status after SIGTERM. Kubernetes kills a pod 30 seconds after SIGTERM."""

logger = logging.getLogger("toxicity_loadtest")


def main(arguments: list[str] | None = None) -> int:
    """Run the load test and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("locust").setLevel(logging.WARNING)
    try:
        config = parse_stage_config(LoadTestConfig, os.environ)
    except StageConfigError as error:
        logger.error("invalid_config error=%s", error)
        _write_result(_failed("", "InvalidConfig", str(error)), options.termination_log)
        return EXIT_INVALID_INPUT
    try:
        signal.signal(signal.SIGTERM, _terminate)
        is_master = config.load_test.workers == 1 or int(os.environ.get(INDEX_VARIABLE, "0")) == 0
        (_run_master if is_master else _run_worker)(config, options)
    except LoadTestError as error:
        logger.error("load_test_failed reason=%s message=%s", error.reason, error)
        _write_result(_failed(config.fingerprint, error.reason, str(error)), options.termination_log)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  a crash must also leave a result
        log_crash("load_test_crashed", error)
        _write_result(
            _failed(config.fingerprint, "LoadTestCrashed", describe_crash(error)), options.termination_log
        )
        return EXIT_FAILED
    result = StageResult(stage="loadtest", fingerprint=config.fingerprint, outcome="succeeded")
    _write_result(result, options.termination_log)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="toxicity_loadtest", description=__doc__)
    parser.add_argument(
        "--local", action="store_true", help="print the status as JSON lines instead of writing it to a cluster"
    )
    parser.add_argument(
        "--previous", type=Path, help="status.json of an earlier run to compare with; only with --local"
    )
    parser.add_argument("--replicas", type=int, help="number of replicas that serve; only with --local")
    parser.add_argument(
        "--ready-seconds", type=float, default=READY_SECONDS, help="maximum time to wait for /readyz, in seconds"
    )
    parser.add_argument(
        "--request-seconds", type=float, default=REQUEST_SECONDS, help="timeout of a request, in seconds"
    )
    parser.add_argument(
        "--calibration-seconds",
        type=float,
        default=CALIBRATION_SECONDS,
        help="time to measure the generator's maximum rate, in seconds; 0 skips it",
    )
    parser.add_argument(
        "--workers-seconds",
        type=float,
        default=WORKERS_SECONDS,
        help="maximum time to wait for the workers, in seconds",
    )
    parser.add_argument(
        "--termination-log", type=Path, default=TERMINATION_LOG, help="file for the result document"
    )
    add_secrets_argument(parser)
    return parser


def _run_master(config: LoadTestConfig, options: argparse.Namespace) -> None:
    """Run the load test and write its status."""
    from toxicity_loadtest.engine import (  # first: patches sockets
        LocustEngine,
        build_target,
        log_greenlet_crashes,
    )
    from toxicity_loadtest.publish import in_cluster_publisher, local_publisher
    from toxicity_loadtest.stage import LoadTest
    from toxicity_loadtest.storage import open_store

    is_local, previous, replicas = options.local, options.previous, options.replicas
    publisher = local_publisher(sys.stdout, previous, replicas) if is_local else in_cluster_publisher(config)
    store = partial(open_store, config, options.object_store_secrets)
    test = LoadTest(config, publisher, store, options.ready_seconds)
    try:
        _handle_sigterm_in_greenlet()
        log_greenlet_crashes()
        target = build_target(config, options.request_seconds, os.environ)
        test.run(LocustEngine(config, target, options.calibration_seconds, options.workers_seconds))
    except LoadTestError as error:
        _write_failure(test, str(error), error)
        raise
    except Exception as error:
        _write_failure(test, describe_crash(error), None)
        raise


def _run_worker(config: LoadTestConfig, options: argparse.Namespace) -> None:
    """Run one worker, which reports to the master only."""
    from toxicity_loadtest.engine import build_target, log_greenlet_crashes, run_worker
    from toxicity_loadtest.storage import open_store

    _handle_sigterm_in_greenlet()
    log_greenlet_crashes()
    open_store(config, options.object_store_secrets)
    run_worker(config, build_target(config, options.request_seconds, os.environ))


def _write_failure(test: LoadTest, message: str, error: LoadTestError | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        test.fail(message, error, FAILURE_SECONDS)
    except LoadTestError as problem:
        logger.error("last_word_not_written reason=%s error=%s", problem.reason, problem)


def _failed(fingerprint: str, reason: str, message: str) -> StageResult:
    return StageResult(stage="loadtest", fingerprint=fingerprint, outcome="failed", reason=reason, message=message)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM before the load begins. Later the exception could be raised in any greenlet."""
    raise Terminated("the load test was ended by SIGTERM")


def _handle_sigterm_in_greenlet() -> None:
    """Make SIGTERM raise Terminated in the current greenlet, which runs the load test."""
    import gevent

    running = gevent.getcurrent()
    gevent.signal_handler(
        signal.SIGTERM, lambda: gevent.kill(running, Terminated("the load test was ended by SIGTERM"))
    )


def _write_result(result: StageResult, termination_log: Path) -> None:
    """Write the result document. Outside a pod the path may not exist."""
    try:
        termination_log.write_text(result.to_termination_message(), encoding="utf-8")
    except OSError as error:
        logger.warning("result_not_written path=%s error=%s", termination_log, error)


if __name__ == "__main__":
    sys.exit(main())
