"""Entry point of the load test image: `python -m toxicity_loadtest`, configured by STAGE_CONFIG.

With `--local` it reports on standard output instead of to a cluster. Whatever happens, the status and the result
document say so; a run with failed requests is complete all the same, since its figures tell. With several workers,
the process of index 0 (JOB_COMPLETION_INDEX) is the master, who reports; the others offer the load.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import LoadTestConfig, StageConfigError, parse_stage_config
from toxicity_loadtest.errors import LoadTestError, Terminated, describe_crash, log_crash

if TYPE_CHECKING:
    from toxicity_loadtest.stage import LoadTest

TERMINATION_LOG = Path("/dev/termination-log")
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
READY_SECONDS = 60.0
REQUEST_SECONDS = 30.0
CALIBRATION_SECONDS = 1.0
WORKERS_SECONDS = 300.0
LAST_WORD_SECONDS = 10.0
"""For the status of a run that is told to end; a pod is killed 30 seconds after it was told."""

logger = logging.getLogger("toxicity_loadtest")


def main(arguments: list[str] | None = None) -> int:
    """Runs the load test and returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("locust").setLevel(logging.WARNING)
    try:
        config = parse_stage_config(LoadTestConfig, os.environ)
    except StageConfigError as error:
        logger.error("invalid_config error=%s", error)
        _report(_failed("", "InvalidConfig", str(error)), options.termination_log)
        return EXIT_INVALID_INPUT
    try:
        signal.signal(signal.SIGTERM, _terminate)
        leads = config.load_test.workers == 1 or int(os.environ.get(INDEX_VARIABLE, "0")) == 0
        (_lead if leads else _follow)(config, options)
    except LoadTestError as error:
        logger.error("load_test_failed reason=%s message=%s", error.reason, error)
        _report(_failed(config.fingerprint, error.reason, str(error)), options.termination_log)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  a crash must leave a result too
        log_crash("load_test_crashed", error)
        _report(_failed(config.fingerprint, "LoadTestCrashed", describe_crash(error)), options.termination_log)
        return EXIT_FAILED
    result = StageResult(stage="loadtest", fingerprint=config.fingerprint, outcome="succeeded")
    _report(result, options.termination_log)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="toxicity_loadtest", description=__doc__)
    parser.add_argument("--local", action="store_true", help="print the status as JSON lines, use no cluster")
    parser.add_argument("--ready-seconds", type=float, default=READY_SECONDS, help="how long to wait for /readyz")
    parser.add_argument("--request-seconds", type=float, default=REQUEST_SECONDS, help="time-out of a request")
    parser.add_argument(
        "--calibration-seconds", type=float, default=CALIBRATION_SECONDS, help="for the generator's own ceiling"
    )
    parser.add_argument(
        "--workers-seconds", type=float, default=WORKERS_SECONDS, help="how long to wait for the workers"
    )
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help="where the result goes")
    return parser


def _lead(config: LoadTestConfig, options: argparse.Namespace) -> None:
    """The whole run, and its status to the end."""
    from toxicity_loadtest.engine import (  # first: patches sockets for gevent
        LocustEngine,
        build_target,
        log_greenlet_crashes,
    )
    from toxicity_loadtest.publish import StreamPublisher, in_cluster_publisher
    from toxicity_loadtest.stage import LoadTest

    publisher = StreamPublisher(sys.stdout) if options.local else in_cluster_publisher(config)
    test = LoadTest(config, publisher, options.ready_seconds)
    try:
        _end_by_greenlet()
        log_greenlet_crashes()
        target = build_target(config, options.request_seconds, os.environ)
        test.run(LocustEngine(config, target, options.calibration_seconds, options.workers_seconds))
    except LoadTestError as error:
        _last_word(test, str(error), error)
        raise
    except Exception as error:
        _last_word(test, describe_crash(error), None)
        raise


def _follow(config: LoadTestConfig, options: argparse.Namespace) -> None:
    """One worker's part of the run; it reports to the master alone."""
    from toxicity_loadtest.engine import build_target, log_greenlet_crashes, run_worker

    _end_by_greenlet()
    log_greenlet_crashes()
    run_worker(config, build_target(config, options.request_seconds, os.environ))


def _last_word(test: LoadTest, message: str, error: LoadTestError | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        test.fail(message, error, LAST_WORD_SECONDS)
    except LoadTestError as problem:
        logger.error("last_word_not_written reason=%s error=%s", problem.reason, problem)


def _failed(fingerprint: str, reason: str, message: str) -> StageResult:
    return StageResult(stage="loadtest", fingerprint=fingerprint, outcome="failed", reason=reason, message=message)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Until the load begins; later a signal must not be raised in whichever greenlet happens to run."""
    raise Terminated("ended by SIGTERM")


def _end_by_greenlet() -> None:
    """Makes SIGTERM raise Terminated where the load test stands."""
    import gevent

    running = gevent.getcurrent()
    gevent.signal_handler(signal.SIGTERM, lambda: gevent.kill(running, Terminated("ended by SIGTERM")))


def _report(result: StageResult, termination_log: Path) -> None:
    """Leaves the result document; outside a pod there may be no place for it."""
    try:
        termination_log.write_text(result.to_termination_message(), encoding="utf-8")
    except OSError as error:
        logger.warning("result_not_written path=%s error=%s", termination_log, error)


if __name__ == "__main__":
    sys.exit(main())
