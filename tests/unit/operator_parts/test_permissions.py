"""The chart grants exactly the permissions that the operator declares."""

from __future__ import annotations

from pathlib import Path

import yaml

from toxicity_operator.kube.permissions import LEASE_RULES, RULES

CHART_ROLE = Path(__file__).parents[3] / "helm/toxicity-operator/templates/operator/clusterrole.yaml"


def grants(rules: list[dict[str, list[str]]]) -> set[tuple[str, str, str]]:
    return {
        (g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]
    }


def test_chart_grants_what_is_needed_and_no_more() -> None:
    text = CHART_ROLE.read_text(encoding="utf-8")
    role = text[text.index("rules:") :].split("\n---")[0].splitlines()
    rules = yaml.safe_load("\n".join(line for line in role if not line.strip().startswith("{{")))["rules"]
    assert grants(rules) == grants(RULES)


def test_of_pods_only_the_log_is_read_one_by_one() -> None:
    pods = {(group, resource, verb) for group, resource, verb in grants(RULES) if resource.startswith("pods")}
    assert pods == {
        ("", "pods", "list"), ("", "pods", "watch"), ("", "pods/log", "get"), ("metrics.k8s.io", "pods", "list"),
    }  # fmt: skip


def test_there_is_no_wildcard() -> None:
    assert not any("*" in part for grant in grants(RULES + LEASE_RULES) for part in grant)
