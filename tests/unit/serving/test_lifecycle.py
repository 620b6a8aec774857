"""Test the lifecycle: readiness after the self-test, a final and reported failure, a clean stop after draining."""

from __future__ import annotations

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.serving.word_engine import CONFIG, DEADLY_WORD, HELD_WORD, WordEngine, ready, running, samples, wait
from toxicity_api.spec import Labels
from toxicity_serving.engine.protocol import LoadedModel
from toxicity_serving.http.app import create_app
from toxicity_serving.http.middleware.deadline import DEADLINE_HEADER
from toxicity_serving.http.server import DrainingServer
from toxicity_serving.lifecycle import Service, StallLimits, State, run_lifecycle


def test_service_is_alive_but_not_ready_while_the_engine_loads() -> None:
    engine = WordEngine(held=True)
    with running(engine) as client:
        answers = {path: client.get(path).status_code for path in ("/healthz", "/readyz", "/v1/model")}
        assert answers == {"/healthz": 200, "/readyz": 503, "/v1/model": 503}
        assert client.post("/v1/classify", json={"text": "а"}).status_code == 503
        assert samples(client)["toxicity_ready"] == 0


def test_ready_after_the_selftest() -> None:
    with ready() as client:
        assert "self-test passed" in client.get("/readyz").json()["reason"]
        assert samples(client)["toxicity_ready"] == 1


def test_engine_is_stopped_when_the_service_stops() -> None:
    engine = WordEngine()
    with ready(engine):
        assert not engine.stopped
    assert engine.stopped


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (WordEngine(same=True), "do not discriminate"),
        (WordEngine(broken="no such file"), "no such file"),
    ],
)
def test_failed_start_is_final_and_reported_once(engine: WordEngine, reason: str) -> None:
    failures: list[str] = []
    with running(engine, failures) as client:
        wait(lambda: client.get("/healthz").status_code == 503)
        assert reason in client.get("/readyz").json()["reason"]
        assert client.post("/v1/classify", json={"text": "а"}).status_code == 503
    assert len(failures) == 1 and reason in failures[0]


def test_dead_engine_makes_the_service_unready_and_ends_it() -> None:
    failures: list[str] = []
    with running(WordEngine(), failures) as client:
        wait(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/classify", json={"text": DEADLY_WORD}).status_code == 503
        wait(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/healthz").status_code == 503
    assert failures == ["EngineError: dead"]


def test_failed_request_makes_the_service_unready_at_once() -> None:
    """The next periodic check is a minute away, so the failed request must trigger one."""
    failures: list[str] = []
    with running(WordEngine(), failures, check_seconds=60) as client:
        wait(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/classify", json={"text": DEADLY_WORD}).status_code == 503
        wait(lambda: client.get("/readyz").status_code == 503)
    assert failures == ["EngineError: dead"]


def test_stopping_service_refuses_requests_with_retry_after() -> None:
    async def answer_while_stopping() -> httpx.Response:
        app = create_app(CONFIG, WordEngine())
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
        ):
            while app.state.service.state is not State.READY:
                await asyncio.sleep(0)
            app.state.service.transition(State.STOPPING, "enough")
            return await client.post("/v1/classify", json={"text": "а"})

    answer = asyncio.run(answer_while_stopping())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["connection"] == "close"


def test_start_fails_when_the_labels_share_their_first_token() -> None:
    labels = Labels(toxic="да", non_toxic="дада")
    service = Service(CONFIG.model_copy(update={"labels": labels}))
    failures: list[str] = []
    asyncio.run(run_lifecycle(service, WordEngine(labels=labels), failures.append, check_seconds=0.01))
    assert service.state is State.FAILED
    assert "begin with the same token" in failures[0]


def test_unexpected_error_ends_the_service() -> None:
    class Crashing(WordEngine):
        async def check(self) -> None:
            raise ZeroDivisionError("nobody foresaw this")

    failures: list[str] = []
    with running(Crashing(), failures) as client:
        wait(lambda: client.get("/healthz").status_code == 503)
    assert failures == ["ZeroDivisionError('nobody foresaw this')"]


def test_first_signal_turns_unready_and_keeps_serving() -> None:
    async def after_signal() -> tuple[State, bool]:
        app = create_app(CONFIG, WordEngine())
        server = DrainingServer(app)
        app.state.service.transition(State.READY, "")
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.sleep(0)
        return app.state.service.state, server.should_exit

    assert asyncio.run(after_signal()) == (State.DRAINING, False)


def test_second_signal_stops_at_once() -> None:
    async def after_two_signals() -> bool:
        app = create_app(CONFIG, WordEngine())
        server = DrainingServer(app)
        app.state.service.transition(State.READY, "")
        server.handle_exit(signal.SIGTERM, None)
        server.handle_exit(signal.SIGTERM, None)
        return server.should_exit

    assert asyncio.run(after_two_signals())


def test_unfounded_doubt_is_checked_once_and_the_service_goes_on() -> None:
    class Healthy(WordEngine):
        checks = 0

        async def check(self) -> None:
            self.checks += 1
            assert self.checks < 5, "the engine is asked again and again"
            await asyncio.sleep(0)

    async def after_doubts() -> tuple[list[int], bool, State]:
        service, engine, failures = Service(CONFIG), Healthy(), list[str]()
        life = asyncio.create_task(run_lifecycle(service, engine, failures.append, check_seconds=60))
        async with asyncio.timeout(10):
            while service.state is not State.READY:
                await asyncio.sleep(0.001)
            seen = [engine.checks]
            for _ in range(2):
                service.check_requested.set()
                await asyncio.sleep(0.05)
                seen.append(engine.checks)
        assert not life.done()
        life.cancel()
        assert failures == []
        return seen, service.check_requested.is_set(), service.state

    assert asyncio.run(after_doubts()) == ([0, 1, 2], False, State.READY)


def test_no_text_is_scored_before_the_self_test_has_passed() -> None:
    class Watched(WordEngine):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[bool, State]] = []

        async def _answer(self, text: str) -> tuple[float, float]:
            self.seen.append((service.started is not None, service.state))
            return await super()._answer(text)

    async def start() -> None:
        life = asyncio.create_task(run_lifecycle(service, engine, failures.append, check_seconds=60))
        async with asyncio.timeout(10):
            while service.state is not State.READY:
                await asyncio.sleep(0.001)
        life.cancel()

    service, engine, failures = Service(CONFIG), Watched(), list[str]()
    asyncio.run(start())
    assert engine.seen, "the self-test asks the engine"
    assert set(engine.seen) == {(False, State.STARTING)}
    assert service.started is not None and failures == []


class StoppedWhileLoading(WordEngine):
    """Asks its service to stop when the engine starts."""

    def __init__(self, service: Service, state: State) -> None:
        super().__init__()
        self.stop_service = lambda: service.transition(state, "asked")

    async def start(self) -> LoadedModel:
        self.stop_service()
        return await super().start()


class StoppedInSelfTest(StoppedWhileLoading):
    """Asks its service to stop when a text is scored."""

    async def start(self) -> LoadedModel:
        return await WordEngine.start(self)

    async def _answer(self, text: str) -> tuple[float, float]:
        self.stop_service()
        return await super()._answer(text)


@pytest.mark.parametrize("state", [State.DRAINING, State.STOPPING])
@pytest.mark.parametrize("engine", [StoppedWhileLoading, StoppedInSelfTest])
def test_service_that_is_asked_to_stop_before_it_is_ready_does_not_become_ready(
    engine: type[StoppedWhileLoading], state: State
) -> None:
    async def start() -> None:
        lifecycle = run_lifecycle(service, engine(service, state), failures.append, check_seconds=60)
        task = asyncio.create_task(lifecycle)
        async with asyncio.timeout(10):
            while service.started is None:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()

    service, failures = Service(CONFIG), list[str]()
    asyncio.run(start())
    assert (service.state, service.reason, failures) == (state, "asked", [])


def test_failure_is_final() -> None:
    service = Service(CONFIG)
    service.transition(State.FAILED, "the first reason")
    service.transition(State.READY, "another one")
    assert (service.state, service.reason) == (State.FAILED, "the first reason")


def test_engine_that_hangs_makes_the_service_unready_until_it_answers() -> None:
    engine = WordEngine()
    stall = StallLimits(probe=60, unready=0.3, failed=60)
    with running(engine, stall=stall) as client, ThreadPoolExecutor() as pool:
        wait(lambda: client.get("/readyz").status_code == 200)
        held = pool.submit(client.post, "/v1/classify", json={"text": HELD_WORD})
        wait(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json()["reason"] == "the engine does not answer"
        assert client.get("/healthz").status_code == 200 and samples(client)["toxicity_ready"] == 0
        engine.release()
        assert held.result().status_code == 200
        wait(lambda: client.get("/readyz").status_code == 200)
        assert samples(client)["toxicity_ready"] == 1


def test_engine_that_hangs_for_long_ends_the_service() -> None:
    failures: list[str] = []
    stall = StallLimits(probe=60, unready=0.1, failed=0.4)
    with running(WordEngine(), failures, stall=stall) as client, ThreadPoolExecutor() as pool:
        wait(lambda: client.get("/readyz").status_code == 200)
        pool.submit(client.post, "/v1/classify", json={"text": HELD_WORD}, timeout=2)
        wait(lambda: client.get("/healthz").status_code == 503)
    assert len(failures) == 1 and failures[0].startswith("EngineStalledError: the engine has not answered for 0 s")


class Hanging(WordEngine):
    """Answers no prompt while `hangs` is set."""

    hangs = False

    async def _answer(self, text: str) -> tuple[float, float]:
        if self.hangs:
            await asyncio.Event().wait()
        return await super()._answer(text)


def test_idle_engine_is_not_taken_for_a_hanging_one_when_clients_give_up() -> None:
    """A probe asks it instead."""
    engine, failures = Hanging(), list[str]()
    with running(engine, failures, stall=StallLimits(probe=0.2, unready=0.6, failed=60)) as client:
        wait(lambda: client.get("/readyz").status_code == 200)
        engine.hangs = True
        answer = client.post("/v1/classify", json={"text": "а"}, headers={DEADLINE_HEADER: "100"})
        assert answer.status_code == 504
        engine.hangs, answered = False, engine.answered
        wait(lambda: engine.answered == answered + 1)
        seen = [client.get("/readyz").status_code for _ in range(50) if not time.sleep(0.02)]
        assert set(seen) == {200}
        engine.hangs = True
        answer = client.post("/v1/classify", json={"text": "а"}, headers={DEADLINE_HEADER: "100"})
        wait(lambda: client.get("/readyz").status_code == 503)
    assert failures == []


def test_start_has_a_time_limit_with_the_field_in_its_message() -> None:
    failures: list[str] = []
    with running(WordEngine(held=True), failures, config=CONFIG.model_copy(update={"start_seconds": 1})) as client:
        wait(lambda: client.get("/healthz").status_code == 503)
    [reason] = failures
    assert reason.startswith("StartTimeoutError: not ready 1 s after the start: the engine is loading")
    assert reason.endswith("raise serving.startSeconds")
