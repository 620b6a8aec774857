"""The NetworkPolicy and the PodDisruptionBudget, neither of which is there unless it is asked for."""

from __future__ import annotations

import pytest

from support.chart import Documents, Render, all_of_kind, of_kind, operator_container

POLICY, BUDGET = "networkPolicy.enabled=true", "podDisruptionBudget.enabled=true"


@pytest.mark.parametrize("kind", ["NetworkPolicy", "PodDisruptionBudget"])
def test_not_rendered_by_default(defaults: Documents, kind: str) -> None:
    assert all_of_kind(defaults, kind) == []


def test_policy_lets_in_what_the_operator_answers_and_out_to_dns_and_the_api_server(render: Render) -> None:
    documents = render("--set", POLICY)
    policy = of_kind(documents, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    answered = [port["containerPort"] for port in operator_container(documents)["ports"]]
    assert policy["ingress"] == [{"ports": [{"port": port} for port in answered]}]
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert policy["egress"] == [dns, {"ports": [{"port": 443}, {"port": 6443}]}]


def test_policy_names_the_api_server_when_its_addresses_are_given(everything: Documents) -> None:
    _, api_server = of_kind(everything, "NetworkPolicy")["spec"]["egress"]
    blocks = [{"ipBlock": {"cidr": "10.96.0.1/32"}}, {"ipBlock": {"cidr": "192.0.2.10/32"}}]
    assert api_server == {"ports": [{"port": 8443}], "to": blocks}


def test_budget_refuses_evictions_of_a_ready_operator_only(render: Render) -> None:
    budget = of_kind(render("--set", BUDGET), "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (0, "AlwaysAllow")


def test_budget_lets_one_of_several_pods_go(render: Render) -> None:
    budget = of_kind(render("--set", BUDGET, "--set", "operator.replicas=2"), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1


def test_selectors_find_the_operators_pod_and_not_that_of_the_test(everything: Documents) -> None:
    pod = of_kind(everything, "Deployment")["spec"]["template"]["metadata"]["labels"]
    test = of_kind(everything, "Pod")["metadata"]["labels"]
    selectors = [
        of_kind(everything, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        of_kind(everything, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(everything, "Deployment")["spec"]["selector"]["matchLabels"],
        of_kind(everything, "Service")["spec"]["selector"],
    ]
    for selector in selectors:
        assert selector.items() <= pod.items()
        assert not selector.items() <= test.items()
