"""The operator under every interruption, as a stateful test: whatever happens in between, it ends as if nothing had.

Hypothesis invents the schedules (seeded, so that every run is the same) and shrinks the one that fails to a few
steps. What a schedule asserts at each write is in `schedule.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.interruption.backends import in_memory
from support.interruption.faults import KINDS, Fault
from support.interruption.namesakes import NAMESAKES
from support.interruption.schedule import EDITS, SPECS, Schedule
from support.interruption.versions import VERSIONS, WRITERS
from support.operator.actors import label
from toxicity_operator import names
from toxicity_operator.kube.client import CHILD_KINDS
from toxicity_operator.manifests.autoscaler import HPA, SCALED_OBJECT
from toxicity_operator.manifests.expose import HTTP_ROUTE, INGRESS

pytestmark = pytest.mark.interruption

SCHEDULES = 1200
PARTS = 8
STEPS = 24
LOST = (
    "Job",
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    HPA,
    SCALED_OBJECT,
    INGRESS,
    HTTP_ROUTE,
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "Pod",
)

faults = st.builds(Fault, st.integers(0, 14), st.sampled_from(KINDS), st.booleans())
child_kinds = st.sampled_from([kind for _, kind, _ in CHILD_KINDS])


@functools.cache
def undisturbed(spec: str, skewed: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a resource of this spec ends when nothing comes between: its outcome and what its children are.

    `skewed`: without what another version of the operator may do otherwise.
    """
    schedule = Schedule(in_memory(), spec=spec)
    schedule.converge()
    schedule.skewed = skewed
    return schedule.outcome(), schedule.children()


class Interruptions(RuleBasedStateMachine):
    """One resource on an API server in memory; the rules are what can happen, in any order and number."""

    schedule: Schedule

    has_second = False

    @initialize(
        spec=st.sampled_from(sorted(SPECS)),
        cached=st.booleans(),
        rounds=st.integers(0, 6),
        second=st.integers(0, 3),
    )
    def begin(self, spec: str, cached: bool, rounds: int, second: int) -> None:
        """A resource that has come as far as so many undisturbed rounds bring it; one in four has two operators."""
        self.has_second = second == 3
        self.schedule = Schedule(in_memory(), cached=cached, spec=spec)
        for _ in range(rounds):
            self.schedule.round()

    @rule(fault=faults)
    def fail_in_a_pass(self, fault: Fault) -> None:
        self.schedule.reconcile(fault)

    @rule(times=st.integers(1, 3))
    def reconcile(self, times: int) -> None:
        for _ in range(times):
            self.schedule.reconcile()

    @rule()
    def restart(self) -> None:
        self.schedule.restart()

    @rule(kind=child_kinds)
    def hear_of_one_kind(self, kind: str) -> None:
        self.schedule.tell(kind)

    @rule(kind=child_kinds)
    def hear_of_one_kind_twice(self, kind: str) -> None:
        self.schedule.tell_twice(kind)

    @rule()
    def hear_of_the_resource(self) -> None:
        self.schedule.tell_model()

    @rule(faulty=st.booleans(), fault=faults)
    def hear_of_everything_and_reconcile(self, faulty: bool, fault: Fault) -> None:
        self.schedule.hear_and_reconcile(fault if faulty else None)

    @rule(end=st.booleans())
    def run_the_jobs(self, end: bool) -> None:
        self.schedule.run_jobs(end=end)

    @rule()
    def run_the_jobs_and_hear_of_them_alone(self) -> None:
        self.schedule.run_jobs()
        self.schedule.tell("Job")
        self.schedule.reconcile()

    @rule()
    def publish_figures(self) -> None:
        self.schedule.half_load_test()

    @rule(ready=st.integers(0, 1))
    def roll_out(self, ready: int) -> None:
        self.schedule.roll_out(ready)

    @rule(replicas=st.integers(1, 2))
    def scale(self, replicas: int) -> None:
        self.schedule.scale(replicas)

    @rule()
    def expire(self) -> None:
        self.schedule.expire()

    @rule(kind=st.sampled_from(LOST))
    def lose(self, kind: str) -> None:
        self.schedule.lose(kind)

    @rule(kind=st.sampled_from(sorted(EDITS)))
    def edit(self, kind: str) -> None:
        self.schedule.edit(kind)

    @rule(spec=st.sampled_from(sorted(SPECS)))
    def change_the_spec(self, spec: str) -> None:
        self.schedule.change_spec(spec)

    @rule()
    def delete_and_apply_anew(self) -> None:
        self.schedule.recreate()

    @rule()
    def orphan_and_apply_anew(self) -> None:
        self.schedule.orphan()

    @rule(kind=st.sampled_from(sorted(NAMESAKES)), labelled=st.booleans(), job=st.integers(0, 3))
    def take_the_name_of_a_child(self, kind: str, labelled: bool, job: int) -> None:
        self.schedule.usurp(kind, labelled=labelled, job=job)

    @rule()
    def take_the_strangers_away(self) -> None:
        self.schedule.strangers.take_away()

    @rule(version=st.sampled_from(sorted(VERSIONS)), status=st.sampled_from(sorted(WRITERS)))
    def become_another_version(self, version: str, status: str) -> None:
        self.schedule.become(version, status)

    @precondition(lambda self: self.has_second)
    @rule(hears=st.booleans())
    def second_operator_passes(self, hears: bool) -> None:
        self.schedule.second_operator_passes(hears=hears)

    @invariant()
    def leave_strangers_alone(self) -> None:
        if hasattr(self, "schedule"):
            self.schedule.strangers.check()

    def teardown(self) -> None:
        if not hasattr(self, "schedule"):
            return
        self.schedule.converge()
        self.check_outcome()
        self.schedule.check_rest()

    def check_outcome(self) -> None:
        """As undisturbed; but what a refused spec's predecessors have made and found out stays."""
        outcome, children = undisturbed(self.schedule.spec, self.schedule.skewed)
        found, made = self.schedule.outcome(), self.schedule.children()
        if outcome["status"]["stage"] == "QualityRefused":
            assert found["status"]["stage"] == "QualityRefused"
            return
        assert found["status"] == outcome["status"]
        assert made == children


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_comes_between_it_ends_as_if_nothing_had(part: int) -> None:
    """A part of the schedules, of a seed of its own, so that several processes can share the work."""
    run_state_machine_as_test(
        seed(part)(type(Interruptions.__name__, (Interruptions,), {})),
        settings=settings(
            max_examples=SCHEDULES // PARTS,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )


def test_only_one_of_two_operators_scales_up_after_a_stage_that_had_the_gpu() -> None:
    """The autoscaler owns the number as soon as the Deployment has replicas again."""
    schedule = Schedule(in_memory(), cached=True, spec="gpu, autoscaled")
    for _ in range(3):
        schedule.round()
    schedule.second_operator_passes(hears=False)
    schedule.expire()
    schedule.orphan()
    schedule.converge()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("index", range(16))
def test_load_test_that_ends_in_the_middle_of_a_pass_has_its_figures(index: int, cached: bool) -> None:
    schedule = Schedule(in_memory(), cached=cached)
    while not any(label(job, names.COMPONENT_LABEL) == names.LOADTEST for job in schedule.api.list("Job")):
        schedule.hear()
        schedule.reconcile()
        if not schedule.api.list("Role"):
            schedule.act()
    schedule.lose("Role")
    schedule.hear()
    schedule.reconcile(Fault(index, "meanwhile"))
    schedule.converge()
    assert schedule.outcome() == undisturbed("plain")[0]


def test_undisturbed_runs_end_as_their_spec_asks() -> None:
    stages = {spec: undisturbed(spec)[0]["status"]["stage"] for spec in SPECS}
    assert stages == dict.fromkeys(SPECS, "Ready") | {"gate": "QualityRefused"}
    kinds = {kind for _, kind, _ in CHILD_KINDS} - {"Job", "Pod", "ReplicaSet"}
    optional = {HPA, SCALED_OBJECT, INGRESS, HTTP_ROUTE}
    for spec, own in (
        ("plain", set()),
        ("autoscaled", {HPA}),
        ("autoscaled by requests", {SCALED_OBJECT}),
        ("exposed by an Ingress", {INGRESS}),
        ("exposed through a Gateway", {HTTP_ROUTE}),
    ):
        assert {child.partition("/")[0] for child in undisturbed(spec)[1]} == kinds - optional | own
