"""The lifecycle of a serving process: starting, ready, draining, stopping or failed. Routes read the state.

`run_lifecycle` starts the engine, runs the self-test, then checks the engine until the task is cancelled or the
engine dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from toxicity_api.prompting import LabelTokenError
from toxicity_api.stage_config import ServingConfig
from toxicity_serving.admission import Admission
from toxicity_serving.classifier import Classifier, UnknownTokenError
from toxicity_serving.engine.protocol import Engine, EngineError, LabelTokenMissing, LoadedModel
from toxicity_serving.metrics import Metrics
from toxicity_serving.selftest import SelfTestError, run_selftest

logger = logging.getLogger(__name__)


class State(StrEnum):
    """The states in the order in which a process enters them."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """The process received SIGTERM: it is not ready, but still accepts requests."""
    STOPPING = "stopping"
    """Requests in flight are finished; new ones are refused."""
    FAILED = "failed"


@dataclass(frozen=True)
class Started:
    """The loaded model and its classifier, available from readiness on."""

    loaded: LoadedModel
    classifier: Classifier


class Service:
    """The state that the routes share. Not thread-safe: change it on the event loop only."""

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.admission = Admission(config.max_num_seqs, config.queue_limit, self.metrics.queue_depth)
        self.check_requested = asyncio.Event()
        """Set it after an engine error, so that the lifecycle task checks the engine at once."""
        self.state = State.STARTING
        self.reason = "the engine is loading"
        self.started: Started | None = None

    def transition(self, state: State, reason: str) -> None:
        """Enter `state`, unless the service has left it or has failed: a service that stops does not become ready."""
        order = list(State)
        if self.state is State.FAILED or order.index(state) < order.index(self.state):
            return
        self.state, self.reason = state, reason
        self.metrics.ready.set(1 if state is State.READY else 0)
        logger.info("state_changed state=%s reason=%r", state.value, reason)


async def run_lifecycle(
    service: Service, engine: Engine, on_failure: Callable[[str], None], check_seconds: float
) -> None:
    """Run the lifecycle of `service` until cancelled. On failure, call `on_failure(reason)` and return."""
    try:
        await _start(service, engine)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(service.check_requested.wait(), check_seconds)
            service.check_requested.clear()
            await engine.check()
    except (EngineError, LabelTokenMissing, LabelTokenError, SelfTestError, UnknownTokenError) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.error("service_failed reason=%r", reason)
        service.transition(State.FAILED, reason)
        on_failure(reason)


async def _start(service: Service, engine: Engine) -> None:
    began = time.monotonic()
    loaded = await engine.start()
    classifier = Classifier(service.config, engine, loaded)
    service.transition(State.STARTING, "the self-test is running")
    await run_selftest(classifier)
    service.started = Started(loaded, classifier)
    _freeze_objects()
    seconds = time.monotonic() - began
    service.metrics.start_seconds.set(seconds)
    service.transition(State.READY, f"self-test passed {seconds:.1f} s after the start")


def _freeze_objects() -> None:
    """Exclude all existing objects from garbage collection: they live as long as the process.

    Otherwise each full collection visits the 700 000 objects of vLLM and torch and blocks the process for half a
    second. This took a third to half of the CPU time of requests with one text.
    """
    gc.collect()
    gc.freeze()
