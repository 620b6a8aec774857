"""Create the load generator: users in this process, or a master with workers. Imports Locust."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import gevent

from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.calibration import measure_ceiling
from toxicity_loadtest.corpus import Corpus, read_corpus
from toxicity_loadtest.distributed import MasterGenerator, Worker
from toxicity_loadtest.errors import GeneratorError, log_traceback
from toxicity_loadtest.measurement import LoadGenerator
from toxicity_loadtest.routes import ROUTES
from toxicity_loadtest.service import Target, take_token
from toxicity_loadtest.user_pool import LocalGenerator

CALIBRATION_USERS = 16
"""Open requests of the calibration. The constant server answers at once, so more would only take memory."""


def build_target(config: LoadTestConfig, request_seconds: float, environment: MutableMapping[str, str]) -> Target:
    """Build the target from the configuration and from the token, which is removed from `environment`.

    Raises TokenError.
    """
    outage, token = config.load_test.max_outage_seconds, take_token(environment)
    return Target(
        config.url,
        request_seconds,
        outage,
        run=config.fingerprint,
        token=token,
        route=ROUTES[config.load_test.route],
    )


def log_greenlet_crashes() -> None:
    """Make gevent log an uncaught exception of a greenlet without its message, which it would print otherwise."""
    gevent.get_hub().print_exception = _log_greenlet_crash


def _log_greenlet_crash(
    _context: object, kind: type[BaseException], _error: object, trace: TracebackType | None
) -> None:
    log_traceback("greenlet_crashed", kind, trace)


@dataclass(frozen=True)
class LocustEngine:
    """Locust as load generator. `workers_seconds` is the maximum time to wait for the workers."""

    config: LoadTestConfig
    target: Target
    calibration_seconds: float
    workers_seconds: float

    def ceiling(self, corpus: Corpus) -> float | None:
        """Return this process's maximum rate times the workers, whose pods have the same resources."""
        spec = self.config.load_test
        if not self.calibration_seconds:
            return None
        one = measure_ceiling(corpus, min(spec.open_limit, CALIBRATION_USERS), self.calibration_seconds)
        return None if one is None else round(one * spec.workers, 1)

    @contextmanager
    def generator(self, corpus: Corpus) -> Iterator[LoadGenerator]:
        """Start a generator whose users wait for the first window, and close it at the end. Raises LoadTestError."""
        spec = self.config.load_test
        if spec.workers == 1:
            local = LocalGenerator(self.target, corpus, spec.open_limit)
            try:
                yield local
            finally:
                local.close()
            return
        try:
            master = MasterGenerator(self.target, corpus, self.config.master_port)
        except SystemExit as error:  # Locust exits if the port is in use
            raise GeneratorError(f"port {self.config.master_port} is in use: see the log") from error
        try:
            master.gather(spec.workers, spec.open_limit, self.workers_seconds)
            yield master
        finally:
            master.close()


def run_worker(config: LoadTestConfig, target: Target) -> None:
    """Run a worker until the master ends the run. Raises LoadTestError."""
    corpus = read_corpus(config)
    worker = Worker(target, corpus, config.master_host, config.master_port)
    try:
        worker.run()
    finally:
        worker.close()
