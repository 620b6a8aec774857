"""What Prometheus and Grafana get: monitors that find the Services, a dashboard of metrics that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.samples import Sample

from support.builders import a_model
from support.chart import CHART, RELEASE, Documents, Render, all_of_kind, of_kind
from toxicity_operator.manifests.loadtest_job import build_loadtest_service
from toxicity_operator.manifests.serving import build_service
from toxicity_operator.runtime.metrics import Metrics as OperatorMetrics
from toxicity_serving.metrics import Metrics as ServingMetrics

MODEL_LABEL = "toxicity_dev_model"
SCRAPED = {"job", MODEL_LABEL, "le"}
"""Labels that Prometheus adds: the Service's name, the label that the monitor copies, a histogram's bound."""

DASHBOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "by"}
SERIES = re.compile(r"_(bucket|count|sum|created|total)$")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"')


def monitor(documents: Documents, name: str) -> Any:
    found = {document["metadata"]["name"]: document for document in all_of_kind(documents, "ServiceMonitor")}
    assert set(found) == {RELEASE, f"{RELEASE}-serving"}
    return found[name]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "ConfigMap"])
def test_not_rendered_by_default(defaults: Documents, kind: str) -> None:
    assert all_of_kind(defaults, kind) == []


def test_monitor_finds_the_operators_service(everything: Documents) -> None:
    spec, service = monitor(everything, RELEASE)["spec"], of_kind(everything, "Service")
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = spec["endpoints"]
    assert endpoint == {"port": "metrics", "interval": "10s"}
    assert "metrics" in {port["name"] for port in service["spec"]["ports"]}


def test_monitor_finds_the_services_of_models_and_no_other(everything: Documents) -> None:
    spec = monitor(everything, f"{RELEASE}-serving")["spec"]
    model = a_model().with_spec("loadTest", {"workers": 2}).build()
    service, other = build_service(model), build_loadtest_service(model)
    assert other is not None
    wanted = spec["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    assert not wanted <= other["metadata"]["labels"].items()
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    (label,) = spec["targetLabels"]
    assert label in service["metadata"]["labels"]
    assert re.sub(r"\W", "_", label) == MODEL_LABEL


@pytest.mark.parametrize(
    ("namespaces", "selector"),
    [("[]", {"any": True}), ('["moderation"]', {"matchNames": ["moderation"]})],
)
def test_models_are_scraped_where_they_are_looked_after(
    render: Render, namespaces: str, selector: dict[str, Any]
) -> None:
    given = ("--set", "metrics.serviceMonitor.enabled=true", "--set-json", f"watchNamespaces={namespaces}")
    documents = render(*given)
    assert monitor(documents, f"{RELEASE}-serving")["spec"]["namespaceSelector"] == selector


def test_monitors_have_the_given_labels(everything: Documents) -> None:
    labels = [document["metadata"]["labels"] for document in all_of_kind(everything, "ServiceMonitor")]
    assert [found["release"] for found in labels] == ["monitoring", "monitoring"]


def test_dashboard_is_shipped_as_it_is(everything: Documents) -> None:
    found = of_kind(everything, "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = found["data"].values()
    assert json.loads(text) == DASHBOARD


def samples() -> list[Sample]:
    """Those of the operator and of the service before anything has happened; every label has its values already."""
    registries = (OperatorMetrics().registry, ServingMetrics().registry)
    return [sample for registry in registries for family in registry.collect() for sample in family.samples]


SAMPLES = samples()
LABELS = {
    name: {label for s in SAMPLES if s.name == name for label in s.labels} for name in {s.name for s in SAMPLES}
}
"""The labels that each metric may carry, by its name."""


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def names_in(expression: str) -> set[str]:
    """The metrics of a PromQL expression: what is left of its words without matchers, ranges, labels and functions."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby\s*\([^)]*\)", " ", expression)
    return set(re.findall(r"\b[a-z_]\w*\b", bare)) - FUNCTIONS


def labels_in(expression: str) -> set[str]:
    """The labels that an expression matches or groups by."""
    grouped = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    matched = [name for part in re.findall(r"\{([^}]*)\}", expression) for name, _ in MATCHER.findall(part)]
    return {name.strip() for part in grouped for name in part.split(",")} | set(matched)


def test_expressions_are_read_right() -> None:
    found = names_in(
        'sum by (le) (rate(toxicity_score_bucket{le="0.5", outcome!="ok"}[5m])) / max(toxicity_ready) > 0'
    )
    assert found == {"toxicity_score_bucket", "toxicity_ready"}
    assert labels_in('sum by (le, a) (x{b=~"$model"})') == {"le", "a", "b"}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_expression_reads_metrics_and_labels_that_the_code_defines(expression: str) -> None:
    assert expression.count("(") == expression.count(")")
    names = names_in(expression)
    assert names
    assert names <= set(LABELS)
    for name in names:
        allowed = LABELS[name] | SCRAPED
        assert labels_in(expression) <= allowed
        if "le" in labels_in(expression):
            assert name.endswith(("_bucket", "_count"))


def test_matched_values_are_ones_that_the_code_gives() -> None:
    given = {pair for sample in SAMPLES for pair in sample.labels.items()}
    matched = {pair for expression in expressions() for pair in MATCHER.findall(expression)}
    fixed = {(label, value) for label, value in matched if label not in ("job", MODEL_LABEL)}
    assert fixed
    assert fixed <= given
    assert {value for label, value in matched if label == MODEL_LABEL} == {"$model"}


def test_every_metric_of_ours_is_shown() -> None:
    """A metric that no panel shows is one that nobody asked for; a histogram is shown by any of its series."""
    shown = {name for expression in expressions() for name in names_in(expression)}
    ours = {re.sub(SERIES, "", name) for name in LABELS if name.startswith("toxicity_")}
    assert len(ours) > 15
    assert ours - {re.sub(SERIES, "", name) for name in shown} == set()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
