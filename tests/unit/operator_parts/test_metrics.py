"""The operator's metrics, read from the endpoint that Prometheus scrapes."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.builders import NOW, SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import STEPS, drive, run
from support.ports import free_ports
from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.metrics import ERROR_KINDS, FAILURES, OUTCOMES, Metrics, error_kind
from toxicity_operator.runtime.reconcile import Outcome, reconcile
from toxicity_operator.settings import Images, OperatorSettings

KEY = ("default", "ru-toxicity")
OTHER = ("default", "other")


class Clock:
    """A manual clock in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def samples(metrics: Metrics, host: str = "127.0.0.1") -> dict[str, float]:
    """All samples of the metrics endpoint, by `name{label value}`."""
    (port,) = free_ports(1)
    stop = metrics.serve(port)
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    finally:
        stop()
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[sample.name.removeprefix("toxicity_operator_") + (f"{{{labels}}}" if labels else "")] = (
                sample.value
            )
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_page_is_served_to_pods_of_either_family(host: str) -> None:
    metrics = Metrics()
    metrics.know(7)
    assert samples(metrics, host)["resources"] == 7


def failing(error: Exception) -> Metrics:
    """Metrics after a pass that raised an exception."""
    metrics = Metrics()

    def look(_: tuple[str, str]) -> Outcome:
        raise error

    with pytest.raises(type(error)):
        metrics.observe(KEY, look)
    return metrics


def test_every_metric_is_listed_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "operator-metrics.md").read_text(encoding="utf-8")
    metrics = Metrics()
    metrics.show_process(lambda: True, dict[str, float])
    names = {family.name for family in metrics.registry.collect() if family.name.startswith("toxicity_")}
    assert len(names) == 10
    assert [name for name in names if f"`{name}" not in page] == []
    labels = [*OUTCOMES, *ERROR_KINDS, *FAILURES.values(), "gone"]
    assert [label for label in labels if f"`{label}`" not in page] == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "forbidden"),
        (410, "gone"),
        (0, "no_answer"),
        (429, "throttled"),
        (500, "server_error"),
        (400, "refused"),
    ],
)
def test_failed_watches_are_counted_by_kind_and_reason(status: int, reason: str) -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.count_watch_failure("Job", ClusterError("failed", status))
    found = {name: value for name, value in samples(metrics).items() if "watch_failures_total" in name}
    assert found == {f"watch_failures_total{{Job,{reason}}}": 3}


@pytest.mark.parametrize("leads", [True, False])
def test_page_says_who_leads_and_how_old_the_news_of_a_kind_are(leads: bool) -> None:
    metrics = Metrics()
    metrics.show_process(lambda: leads, lambda: {"Job": 12.5, "Pod": 0.5})
    page = samples(metrics)
    assert page["leader"] == leads
    ages = {name: value for name, value in page.items() if name.startswith("watch_age")}
    assert ages == {"watch_age_seconds{Job}": 12.5, "watch_age_seconds{Pod}": 0.5}


def test_every_label_is_there_before_anything_happens() -> None:
    page = samples(Metrics())
    counters = {name: value for name, value in page.items() if name.split("{")[0].endswith("_total")}
    counters = {name: value for name, value in counters.items() if not name.startswith("process_")}
    assert set(counters.values()) == {0.0}
    assert {f"reconciles_total{{{outcome}}}" for outcome in OUTCOMES} <= set(counters)
    assert {f"errors_total{{{kind}}}" for kind in ERROR_KINDS} <= set(counters)
    assert page["process_resident_memory_bytes"] > 0
    assert page["queue_age_seconds"] == page["queue_length"] == page["resources"] == 0


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (Outcome(wrote_status=True), "changed"),
        (Outcome(), "unchanged"),
        (Outcome(gone=True), "gone"),
        (Outcome(wrote_status=True, failure=ClusterError("no", 409)), "failed"),
    ],
)
def test_pass_is_counted_by_its_outcome(outcome: Outcome, label: str) -> None:
    metrics = Metrics()
    assert metrics.observe(KEY, lambda _: outcome) is outcome
    page = samples(metrics)
    counts = {name: value for name, value in page.items() if name.startswith("reconciles_total") and value}
    assert counts == {f"reconciles_total{{{label}}}": 1}
    assert page["reconcile_seconds_count"] == 1


def test_pass_that_crashes_is_counted_and_goes_on_to_fail() -> None:
    page = samples(failing(RuntimeError("a defect")))
    assert (page["reconciles_total{crashed}"], page["errors_total{crash}"]) == (1, 1)
    assert page["reconcile_seconds_count"] == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0, "no_answer"),
        (401, "forbidden"),
        (403, "forbidden"),
        (409, "conflict"),
        (422, "refused"),
        (429, "throttled"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_error_has_the_kind_of_its_status(status: int, kind: str) -> None:
    assert error_kind(ClusterError("no", status)) == kind
    metrics = Metrics()
    metrics.observe(KEY, lambda _: Outcome(failure=ClusterError("no", status)))
    page = samples(metrics)
    assert {name for name, value in page.items() if name.startswith("errors") and value} >= {
        f"errors_total{{{kind}}}"
    }
    assert sum(value for name, value in page.items() if name.startswith("errors_total")) == 1


def test_time_of_a_pass_is_without_the_time_that_it_waited() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    metrics.waiting.put(KEY)
    clock.now += 60

    def look(_: tuple[str, str]) -> Outcome:
        clock.now += 0.2
        return Outcome()

    metrics.observe(KEY, look)
    page = samples(metrics)
    assert page["reconcile_seconds_sum"] == pytest.approx(0.2)
    assert (page["reconcile_seconds_bucket{0.1}"], page["reconcile_seconds_bucket{0.25}"]) == (0, 1)


def test_queue_age_is_that_of_the_oldest_trigger() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    metrics.waiting.put(KEY)
    clock.now += 3
    metrics.waiting.put(OTHER)
    metrics.waiting.put(KEY)
    clock.now += 2
    assert (samples(metrics)["queue_age_seconds"], samples(metrics)["queue_length"]) == (5, 2)
    metrics.observe(KEY, lambda _: Outcome())
    assert (samples(metrics)["queue_age_seconds"], samples(metrics)["queue_length"]) == (2, 1)
    metrics.waiting.take(OTHER)
    assert samples(metrics)["queue_age_seconds"] == 0


def test_trigger_during_a_pass_waits_for_the_next_one() -> None:
    metrics = Metrics()

    def look(_: tuple[str, str]) -> Outcome:
        metrics.waiting.put(KEY)
        return Outcome()

    metrics.observe(KEY, look)
    assert samples(metrics)["queue_length"] == 1


def test_waiting_is_counted_right_from_many_threads() -> None:
    metrics = Metrics()

    def come_and_go(number: int) -> None:
        for _ in range(200):
            metrics.waiting.put(("default", f"model-{number}"))
            assert metrics.waiting.age_seconds() >= 0
            metrics.waiting.take(("default", f"model-{number}"))
        metrics.waiting.put(("default", f"model-{number}"))

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.waiting.count() == 8


def test_known_resources_are_told() -> None:
    metrics = Metrics()
    metrics.know(7)
    assert samples(metrics)["resources"] == 7


def test_failed_stage_is_counted_once() -> None:
    cluster = FakeCluster(a_model().raw())
    metrics = Metrics()
    run(cluster)
    cluster.fail_job("train", {"exitCode": 137, "reason": "OOMKilled"})
    for _ in range(3):
        metrics.observe(KEY, lambda key: reconcile(cluster, SETTINGS, *key, NOW))
    page = samples(metrics)
    assert page["stage_failures_total{training}"] == 1
    assert sum(value for name, value in page.items() if name.startswith("stage_failures_total")) == 1
    assert (page["reconciles_total{changed}"], page["reconciles_total{unchanged}"]) == (1, 2)


def test_refused_quality_is_a_failure_of_the_gate() -> None:
    cluster = drive(a_model(), 2)
    metrics = Metrics()
    cluster.finish_evaluation(f1=0.1)
    metrics.observe(KEY, lambda key: reconcile(cluster, SETTINGS, *key, NOW))
    assert samples(metrics)["stage_failures_total{quality_gate}"] == 1


def test_stages_that_succeed_are_no_failures() -> None:
    cluster = FakeCluster(a_model().raw())
    metrics = Metrics()

    def settle() -> None:
        while metrics.observe(KEY, lambda key: reconcile(cluster, SETTINGS, *key, NOW)).wrote_status:
            pass

    settle()
    for step in STEPS:
        step(cluster)
        settle()
    page = samples(metrics)
    assert page["reconciles_total{changed}"] >= 5
    failures = [value for name, value in page.items() if name.startswith(("stage_failures_total", "errors_total"))]
    assert (len(failures) > 2, sum(failures)) == (True, 0)


def test_port_is_the_environments() -> None:
    images = {f"IMAGE_{part.upper()}": "image:1" for part in Images.__dataclass_fields__}
    assert OperatorSettings.from_environment(images).metrics_port == 8081
    assert OperatorSettings.from_environment({**images, "METRICS_PORT": "9000"}).metrics_port == 9000
    with pytest.raises(ValueError, match="METRICS_PORT"):
        OperatorSettings.from_environment({**images, "METRICS_PORT": "none"})
