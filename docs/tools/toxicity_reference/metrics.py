"""The pages of Prometheus metrics, from the registries of the operator and of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Metric

from toxicity_operator.errors import ClusterError
from toxicity_operator.runtime.metrics import Metrics as OperatorMetrics
from toxicity_reference.markdown import GENERATED, code, prose, table
from toxicity_serving.metrics import Metrics as ServiceMetrics

OPERATOR = """
# Operator metrics

The operator serves `GET /metrics` on port 8081 of its pod and of its Service. It also exposes the
`process_*` metrics of the Prometheus client. [Monitor](../how-to/monitor.md)
says what the labels mean and what to alert on.

"""
SERVICE = """
# Service metrics

Every serving pod answers `GET /metrics` on its port `http`. Names and meanings do not change between versions.
vLLM's own metrics are not exposed, since their names change between vLLM versions. [Monitor](../how-to/monitor.md)
says what to alert on.

"""
WATCHED = "Job"
"""Any kind: a watch that has succeeded once, so that the age of watches has a sample."""


def operator_metrics_page() -> str:
    """`reference/operator-metrics.md`."""
    metrics = OperatorMetrics(lambda: 0.0)
    metrics.show_process(lambda: True, lambda: {WATCHED: 0.0})
    for status in (0, 401, 409, 410, 429, 500, 400):
        metrics.count_watch_failure(WATCHED, ClusterError("", status))
    return GENERATED + OPERATOR + _table(metrics.registry)


def service_metrics_page() -> str:
    """`reference/service-metrics.md`."""
    return GENERATED + SERVICE + _table(ServiceMetrics().registry)


def _table(registry: CollectorRegistry) -> str:
    families = [family for family in registry.collect() if family.name.startswith("toxicity_")]
    header = ["metric", "type", "labels", "meaning"]
    return table(header, [[code(_name(f)), f.type, _labels(f), prose(f.documentation)] for f in families])


def _name(family: Metric) -> str:
    """The name to query: the Prometheus client adds `_total` to counters."""
    return family.name + ("_total" if family.type == "counter" else "")


def _labels(family: Metric) -> str:
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le" and value not in values.setdefault(label, []):
                values[label].append(value)
    return "; ".join(
        f"`{label}`" if found == [WATCHED] else f"`{label}`: " + ", ".join(code(value) for value in found)
        for label, found in values.items()
    )
