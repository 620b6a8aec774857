"""The same schedules on a real kube-apiserver and in memory: they must end alike, and the invariants hold on both.

That is what the in-memory server is believed for. The schedules are drawn by a seed, not by Hypothesis, so that
one list of steps can be run twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from support.interruption.backends import in_memory, on_server
from support.interruption.faults import KINDS, Fault
from support.interruption.namesakes import NAMESAKES
from support.interruption.schedule import EDITS, NAME, SPECS, Schedule
from support.interruption.versions import VERSIONS, WRITERS
from support.operator.actors import Api
from support.operator.api_server import ApiServer
from toxicity_operator import names
from toxicity_operator.kube.client import CHILD_KINDS

pytestmark = pytest.mark.interruption

SCHEDULES = int(os.environ.get("INTERRUPTION_SCHEDULES", "60"))
STEPS = 16

Step = Callable[[Schedule], Any]


def draw(random: Random) -> list[Step]:
    """Steps of one schedule; those that move the resource on come more often than those that disturb it."""
    return [draw_step(random) for _ in range(STEPS)]


def draw_step(random: Random) -> Step:
    fault = Fault(random.randrange(12), random.choice(KINDS), random.random() < 0.5)
    kind, spec = random.choice(CHILD_KINDS)[1], random.choice(sorted(SPECS))
    lost, edited = random.choice(("Job", "Deployment", "Service", "Role", "Pod")), random.choice(sorted(EDITS))
    name, labelled, number = random.choice(sorted(NAMESAKES)), random.random() < 0.5, random.randrange(4)
    version, status = random.choice(sorted(VERSIONS)), random.choice(sorted(WRITERS))
    steps: list[tuple[int, Step]] = [
        (6, lambda schedule: schedule.hear_and_reconcile()),
        (5, lambda schedule: schedule.hear_and_reconcile(fault)),
        (2, lambda schedule: schedule.reconcile(fault)),
        (4, lambda schedule: schedule.run_jobs()),
        (3, lambda schedule: schedule.roll_out()),
        (1, lambda schedule: schedule.restart()),
        (1, lambda schedule: schedule.tell(kind)),
        (1, lambda schedule: schedule.tell_twice(kind)),
        (1, lambda schedule: schedule.expire()),
        (1, lambda schedule: schedule.lose(lost)),
        (1, lambda schedule: schedule.edit(edited)),
        (1, lambda schedule: schedule.change_spec(spec)),
        (1, lambda schedule: schedule.recreate()),
        (1, lambda schedule: schedule.orphan()),
        (2, lambda schedule: schedule.usurp(name, labelled=labelled, job=number)),
        (1, lambda schedule: schedule.strangers.take_away()),
        (1, lambda schedule: schedule.become(version, status)),
        (1, lambda schedule: schedule.second_operator_passes(hears=labelled)),
    ]
    (step,) = random.choices([step for _, step in steps], [weight for weight, _ in steps])
    return step


def play(api: Api, seed: int) -> list[Any]:
    """What is there after every step of the schedule with this seed, and at the end."""
    random = Random(seed)
    schedule = Schedule(api, cached=bool(seed % 2), spec=random.choice(sorted(SPECS)))
    seen = []
    for step in draw(random):
        step(schedule)
        schedule.strangers.check()
        seen.append(there(schedule))
    schedule.converge()
    schedule.check_rest()
    return [*seen, there(schedule), schedule.outcome()]


def there(schedule: Schedule) -> list[str]:
    """Every object by kind and name."""
    kinds = [kind for _, kind, _ in CHILD_KINDS]
    return sorted(
        f"{item['kind']}/{item['metadata']['name']}" for kind in kinds for item in schedule.api.list(kind)
    )


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_schedule_goes_the_same_way_on_a_real_server_and_in_memory(server: ApiServer, seed: int) -> None:
    api = on_server(server.connect())
    assert play(api, seed) == play(in_memory(api.namespace), seed)


def test_replicas_are_the_autoscalers_through_passes_and_a_restart(server: ApiServer) -> None:
    schedule = Schedule(on_server(server.connect()), spec="autoscaled")
    schedule.converge()
    name = names.serving_name(NAME)
    schedule.api.merge("Deployment", name, {"spec": {"replicas": 2}}, fieldManager="autoscaler")
    schedule.roll_out()
    schedule.hear()
    schedule.reconcile()
    before = len(schedule.writes)
    for _ in range(20):
        schedule.hear()
        schedule.reconcile()
    schedule.check_rest()
    deployment = schedule.api.get("Deployment", name)
    assert deployment is not None and deployment["spec"]["replicas"] == 2
    assert schedule.writes[before:] == []
