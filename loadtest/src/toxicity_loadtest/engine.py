"""Chooses what makes the load: the users in this process, or a master with workers. Imports Locust."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from toxicity_api.stage_config import LoadTestConfig
from toxicity_loadtest.api_token import take_token
from toxicity_loadtest.calibration import measure_ceiling
from toxicity_loadtest.corpus import Corpus, read_texts
from toxicity_loadtest.distributed import MasterGenerator, Worker
from toxicity_loadtest.errors import GeneratorError
from toxicity_loadtest.generator import LocalGenerator, Target
from toxicity_loadtest.measure import LoadGenerator


def target_of(config: LoadTestConfig, request_seconds: float, environment: MutableMapping[str, str]) -> Target:
    """The service that the configuration names, with the token that is taken out of `environment`.

    Raises TokenError.
    """
    outage, token = config.load_test.max_outage_seconds, take_token(environment)
    return Target(config.url, request_seconds, outage, run=config.fingerprint, token=token)


@dataclass(frozen=True)
class LocustEngine:
    """`calibration_seconds` of load on the loopback tell the ceiling; `workers_seconds` the workers may take."""

    config: LoadTestConfig
    target: Target
    calibration_seconds: float
    workers_seconds: float

    def ceiling(self, corpus: Corpus) -> float | None:
        """This process's ceiling, times the workers: their pods have the same resources."""
        spec = self.config.load_test
        if not self.calibration_seconds:
            return None
        one = measure_ceiling(corpus, -(-spec.users // spec.workers), self.calibration_seconds)
        return None if one is None else round(one * spec.workers, 1)

    @contextmanager
    def generator(self, corpus: Corpus) -> Iterator[LoadGenerator]:
        """The generator, with its users waiting for the first window. Raises LoadTestError."""
        spec = self.config.load_test
        if spec.workers == 1:
            local = LocalGenerator(self.target, corpus, spec.users)
            try:
                yield local
            finally:
                local.close()
            return
        try:
            master = MasterGenerator(self.target, corpus, self.config.master_port)
        except SystemExit as error:  # Locust's way to say that the port is taken
            raise GeneratorError(f"port {self.config.master_port} is taken; see the log") from error
        try:
            master.gather(spec.workers, spec.users, self.workers_seconds)
            yield master
        finally:
            master.close()


def work_for(config: LoadTestConfig, target: Target) -> None:
    """Is a worker until the master says that the run is over. Raises LoadTestError."""
    corpus = Corpus(read_texts(config.texts_path), config.load_test, config.seed)
    worker = Worker(target, corpus, config.master_host, config.master_port)
    try:
        worker.run()
    finally:
        worker.close()
