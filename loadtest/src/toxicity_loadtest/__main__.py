"""Entry point of the load test image: `python -m toxicity_loadtest`, configured by STAGE_CONFIG.

With `--local` it reports on standard output instead of to a cluster. Whatever happens, the status and the result
document say so; a run with failed requests is complete all the same, since its figures tell.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import LoadTestConfig, parse_stage_config
from toxicity_loadtest.errors import LoadTestError, PublishError, Terminated

if TYPE_CHECKING:
    from toxicity_loadtest.stage import LoadTest

TERMINATION_LOG = Path("/dev/termination-log")
READY_SECONDS = 60.0
REQUEST_SECONDS = 30.0

logger = logging.getLogger("toxicity_loadtest")


def main(arguments: list[str] | None = None) -> int:
    """Runs the load test and returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("locust").setLevel(logging.WARNING)
    try:
        config = parse_stage_config(LoadTestConfig, dict(os.environ))
    except (KeyError, ValidationError) as error:
        logger.error("invalid_config error=%s", error)
        _report(_failed("", "InvalidConfig", str(error)), options.termination_log)
        return EXIT_INVALID_INPUT
    result, exit_code = _run(config, options)
    _report(result, options.termination_log)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="toxicity_loadtest", description=__doc__)
    parser.add_argument("--local", action="store_true", help="print the status as JSON lines, use no cluster")
    parser.add_argument("--ready-seconds", type=float, default=READY_SECONDS, help="how long to wait for /readyz")
    parser.add_argument("--request-seconds", type=float, default=REQUEST_SECONDS, help="time-out of a request")
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help="where the result goes")
    return parser


def _run(config: LoadTestConfig, options: argparse.Namespace) -> tuple[StageResult, int]:
    from toxicity_loadtest.generator import Generator  # first of all: patches sockets for gevent
    from toxicity_loadtest.publish import StreamPublisher, in_cluster_publisher
    from toxicity_loadtest.stage import LoadTest

    try:
        publisher = StreamPublisher(sys.stdout) if options.local else in_cluster_publisher(config)
    except PublishError as error:
        logger.error("no_cluster error=%s", error)
        return _failed(config.fingerprint, error.reason, str(error)), error.exit_code
    test = LoadTest(config, publisher, options.ready_seconds)
    spec = config.load_test
    try:
        _raise_on_sigterm()
        generator = Generator(config.url, spec.users, spec.requested_rps, options.request_seconds)
        try:
            test.run(generator)
        finally:
            generator.close()
    except LoadTestError as error:
        logger.error("load_test_failed reason=%s message=%s", error.reason, error)
        return _fail(test, config, error.reason, str(error)), error.exit_code
    except Exception as error:  # a crash must leave a status too
        logger.exception("load_test_crashed")
        return _fail(test, config, "LoadTestCrashed", repr(error)), EXIT_FAILED
    return StageResult(stage="loadtest", fingerprint=config.fingerprint, outcome="succeeded"), 0


def _fail(test: LoadTest, config: LoadTestConfig, reason: str, message: str) -> StageResult:
    try:
        test.fail(message)
    except LoadTestError as error:
        logger.error("status_not_written error=%s", error)
    return _failed(config.fingerprint, reason, message)


def _failed(fingerprint: str, reason: str, message: str) -> StageResult:
    return StageResult(stage="loadtest", fingerprint=fingerprint, outcome="failed", reason=reason, message=message)


def _raise_on_sigterm() -> None:
    """Makes SIGTERM raise Terminated where the load test stands."""
    import signal

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
