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
from typing import Self

from toxicity_api.prompting import LabelTokenError
from toxicity_api.stage_config import ServingConfig
from toxicity_serving.admission import Admission
from toxicity_serving.classifier import Classifier, UnknownTokenError
from toxicity_serving.engine.protocol import (
    Engine,
    EngineError,
    LabelTokenMissing,
    LoadedModel,
    PromptRefusedError,
)
from toxicity_serving.metrics import Metrics
from toxicity_serving.selftest import HARMLESS, SelfTestError, run_selftest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StallLimits:
    """Seconds for which the engine may owe an answer before something happens."""

    probe: float = 5.0
    """A text is sent to an engine that seems to have no work, because all its clients gave up."""

    unready: float = 60.0
    """The service becomes unready. By then, no request can be answered before its deadline."""

    failed: float = 180.0
    """The service fails, and the container is restarted."""


class StartTimeoutError(RuntimeError):
    """The engine did not load in time."""


class EngineStalledError(RuntimeError):
    """The engine answers no prompt, and does not fail either."""


FATAL = (
    EngineError,
    EngineStalledError,
    LabelTokenMissing,
    LabelTokenError,
    PromptRefusedError,
    SelfTestError,
    StartTimeoutError,
    UnknownTokenError,
)
"""The errors of the lifecycle that end the process with their message."""


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
        self.stalled = False
        """Whether the engine owes an answer for too long. The service is unready until it answers."""

    @property
    def is_ready(self) -> bool:
        """Whether the service should get requests."""
        return self.state is State.READY and not self.stalled

    def set_stalled(self, stalled: bool) -> None:
        """Record whether the engine makes progress."""
        if stalled is not self.stalled:
            self.stalled = stalled
            self.reason = "the engine does not answer" if stalled else "the engine answers again"
            self.metrics.ready.set(1 if self.is_ready else 0)
            logger.warning("engine_stalled stalled=%s", stalled)

    def transition(self, state: State, reason: str) -> None:
        """Enter `state`, unless the service has left it or has failed: a service that stops does not become ready."""
        order = list(State)
        if self.state is State.FAILED or order.index(state) < order.index(self.state):
            return
        self.state, self.reason = state, reason
        self.metrics.ready.set(1 if state is State.READY else 0)
        logger.info("state_changed state=%s reason=%r", state.value, reason)


async def run_lifecycle(
    service: Service,
    engine: Engine,
    on_failure: Callable[[str], None],
    check_seconds: float,
    stall: StallLimits | None = None,
) -> None:
    """Run the lifecycle of `service` until cancelled. On failure, call `on_failure(reason)` and return."""
    try:
        classifier = await _start_in_time(service, engine)
        async with _Watchdog(service, classifier, stall or StallLimits()) as watchdog:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(service.check_requested.wait(), check_seconds)
                service.check_requested.clear()
                await engine.check()
                watchdog.check()
    except FATAL as error:
        reason = f"{type(error).__name__}: {error}"
        logger.error("service_failed reason=%r", reason)
        service.transition(State.FAILED, reason)
        on_failure(reason)


async def _start_in_time(service: Service, engine: Engine) -> Classifier:
    seconds = service.config.start_seconds
    try:
        async with asyncio.timeout(seconds):
            return await _start(service, engine)
    except TimeoutError as error:
        raise StartTimeoutError(
            f"not ready {seconds} s after the start: {service.reason}; check that the volume answers, or raise"
            " serving.startSeconds"
        ) from error


async def _start(service: Service, engine: Engine) -> Classifier:
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
    return classifier


class _Watchdog:
    """Notices an engine that neither answers nor fails."""

    def __init__(self, service: Service, classifier: Classifier, limits: StallLimits) -> None:
        self._service = service
        self._classifier = classifier
        self._limits = limits
        self._probe: asyncio.Task[object] | None = None

    def check(self) -> None:
        """Update the service, and probe the engine where needed. Raises EngineStalledError."""
        queue, limits = self._classifier.queue, self._limits
        seconds = queue.unanswered_seconds()
        if seconds > limits.failed:
            raise EngineStalledError(f"the engine has not answered for {seconds:.0f} s")
        self._service.set_stalled(seconds > limits.unready)
        if self._probe is not None and self._probe.done():
            self._probe.result()  # raises what a request would have reported
            self._probe = None
        if seconds > limits.probe and not queue.in_engine and self._probe is None:
            self._probe = asyncio.create_task(self._classifier.scores([HARMLESS]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])


def _freeze_objects() -> None:
    """Exclude all existing objects from garbage collection: they live as long as the process.

    Otherwise each full collection visits the 700 000 objects of vLLM and torch and blocks the process for half a
    second. This took a third to half of the CPU time of requests with one text.
    """
    gc.collect()
    gc.freeze()
