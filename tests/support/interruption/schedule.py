"""A sequence of steps in the life of one resource, with interruptions, and the invariants after each step.

A `Schedule` combines the operator (its real code and client), a cache that receives watch events when the schedule
delivers them, and actors that simulate the rest of the cluster. A `Backend` provides the API server.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client

from support.builders import SETTINGS, ModelBuilder, a_model
from support.interruption.faults import Fault, Killed, Line, Write
from support.interruption.namesakes import NAMESAKES, OUR_LABELS, Strangers
from support.interruption.versions import VERSIONS, WRITERS, image_of, settled_deployment, settled_status
from support.operator.actors import (
    GROUPS,
    Api,
    collect_garbage,
    finish_job,
    is_finished,
    is_of_a_stage,
    is_owned_by,
    is_rolled_out,
    label,
    publish,
    roll_out,
    scale,
    start_pod,
    timestamp,
)
from toxicity_api.base import KIND
from toxicity_operator import names
from toxicity_operator.chain import Chain, JobStage, build_chain
from toxicity_operator.decide.status import own_part
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.cached_cluster import CachedCluster
from toxicity_operator.kube.client import CHILD_KINDS, KubernetesCluster
from toxicity_operator.manifests.autoscaler import HPA, SCALED_OBJECT
from toxicity_operator.manifests.expose import HTTP_ROUTE, INGRESS
from toxicity_operator.manifests.serving import RESIZED
from toxicity_operator.model import read_status
from toxicity_operator.observe.deployment import version_of
from toxicity_operator.runtime.reconcile import reconcile

NAME = "ru-toxicity"
ROUNDS = 40
AUTOSCALING = {"minReplicas": 1, "maxReplicas": 2}
HOST = "toxicity.example.org"
IN_FLIGHT = {"metric": "inFlight", "prometheusAddress": "http://prometheus:9090", **AUTOSCALING}

ONE_GPU = (
    a_model().with_spec("training.gpus", 1).with_spec("serving.gpus", 1).with_spec("serving.strategy", "Recreate")
)

SPECS: Mapping[str, ModelBuilder] = {
    "plain": a_model(),
    "autoscaled": a_model().with_spec("serving.autoscaling", AUTOSCALING),
    "autoscaled by requests": a_model().with_spec("serving.autoscaling", IN_FLIGHT),
    "autoscaled, threshold": a_model()
    .with_spec("serving.autoscaling", AUTOSCALING)
    .with_spec("serving.threshold", 0.75),
    "exposed by an Ingress": a_model().with_spec(
        "serving.expose", {"host": HOST, "ingress": {"className": "nginx"}}
    ),
    "exposed through a Gateway": a_model().with_spec(
        "serving.expose", {"host": HOST, "gateway": {"name": "public"}}
    ),
    "learning rate": a_model().with_spec("training.learningRate", 1e-4),
    "load profile": a_model().with_spec("loadTest.users", 8),
    "threshold": a_model().with_spec("serving.threshold", 0.25),
    "replicas": a_model().with_spec("serving.replicas", 2),
    "gate": a_model().with_spec("qualityGate.minF1", 0.99),
    "not quantized": a_model().with_spec("quantization.method", "none"),
    "no load test": a_model().with_spec("loadTest.enabled", False),
    "gpu": ONE_GPU,
    "gpu, learning rate": ONE_GPU.with_spec("training.learningRate", 1e-4),
    "gpu, autoscaled": ONE_GPU.with_spec("training.epochs", 2.0).with_spec("serving.autoscaling", AUTOSCALING),
    "gpu, autoscaled by requests": ONE_GPU.with_spec("serving.autoscaling", IN_FLIGHT),
}
"""What a person may change the spec to at any time."""

Backend = Callable[[], Api]
"""Gives an empty namespace of some API server."""


def stages_of(chain: Chain) -> list[tuple[str, str]]:
    """Component and fingerprint of every stage in order, from the operator's chain."""
    values = [(item.name, getattr(chain, item.name)) for item in dataclasses.fields(chain)]
    stages = [
        (value.component, value.fingerprint) if isinstance(value, JobStage) else (names.SERVE, str(value))
        for name, value in values
        if isinstance(value, JobStage) or name == "serving_fingerprint"
    ]
    assert {names.TRAIN, names.SERVE} <= {component for component, _ in stages}
    return stages


def predecessors() -> dict[str, list[tuple[str, str]]]:
    """The stages that must have succeeded before a stage starts, by fingerprint, for all specs."""
    found: dict[str, list[tuple[str, str]]] = {}
    for builder in SPECS.values():
        stages = stages_of(build_chain(builder.build(), SETTINGS))
        found |= {fingerprint: stages[:index] for index, (_, fingerprint) in enumerate(stages)}
    return found


PREDECESSORS = predecessors()


@dataclass
class Schedule:
    """The state of one run. `cached`: the operator reads from its cache, as in production.

    `restart` can start a second operator, number 1, with its own cache.
    """

    api: Api
    cached: bool = True
    spec: str = "plain"
    writes: list[Write] = field(default_factory=list)
    done: set[tuple[str, str]] = field(default_factory=set)
    handed_over: bool = False
    skewed: bool = False
    """Another version of the operator has been at work."""

    def __post_init__(self) -> None:
        connection = client.ApiClient(self.api.api_client.configuration)
        self._line = Line(self.api.api_client.rest_client.pool_manager, self._on_write, self._meanwhile)
        connection.rest_client.pool_manager = self._line
        self._cluster = KubernetesCluster(connection)
        self._heard = 0
        self._settings = SETTINGS
        self._caches: dict[int, CachedCluster] = {}
        self._rolled_out: tuple[str, str, str] | None = None
        self._claim: str | None = None
        self._left_serving: set[str] = set()
        self.strangers = Strangers(self.api)
        self._apply_spec()
        self.restart()

    # the operator

    def restart(self, which: int = 0) -> None:
        """Start a new operator process, which lists the children and then the resource."""
        self._caches[which] = CachedCluster(self._cluster)
        for api_version, kind, _ in CHILD_KINDS:
            items, version = self._cluster.list_kind(api_version, kind, self.api.namespace)
            self._caches[which].start_with(kind, self.api.namespace, items, version)
        self.tell_model(which)

    def reconcile(self, fault: Fault | None = None, which: int = 0) -> None:
        """Run one pass. Restart a killed operator. An expected error is left to the next pass."""
        cluster = self._caches[which] if self.cached else self._cluster
        try:
            with self._line.failing(fault), suppress(ClusterError):
                reconcile(cluster, self._settings, self.api.namespace, NAME, timestamp())
        except Killed:
            self.restart(which)

    def second_operator_passes(self, *, hears: bool) -> None:
        """Run a pass of a second operator of the same class with its own cache."""
        if 1 not in self._caches:
            self.restart(1)
        if hears:
            self.hear(1)
        self.reconcile(which=1)

    def become(self, version: str, status: str = "as it is") -> None:
        """Restart the operator as another version, with a status that this version wrote."""
        self.skewed = True
        self._settings = VERSIONS[version]
        write = WRITERS[status]
        if write is not None:
            write(self.api, NAME)
            self._rolled_out = None
        for which in self._caches:
            self.restart(which)

    def tell(self, kind: str, which: int = 0) -> bool:
        """Deliver the pending events of a kind after a gap. Return whether there were any."""
        api_version = next(version for version, of, _ in CHILD_KINDS if of == kind)
        items, version = self._cluster.list_kind(api_version, kind, self.api.namespace)
        return bool(self._caches[which].replace(kind, self.api.namespace, items, version))

    def tell_twice(self, kind: str) -> None:
        """Deliver events of a kind twice, but not those of deletions."""
        api_version = next(version for version, of, _ in CHILD_KINDS if of == kind)
        items = list(self._cluster.list_kind(api_version, kind, self.api.namespace)[0])
        for item in (*items, *items):
            self._caches[0].observe(item)

    def tell_model(self, which: int = 0) -> bool:
        """Deliver the pending events of the resource. Return whether there were any."""
        found = self.api.get(KIND, NAME)
        return found is not None and bool(self._caches[which].observe_model(found))

    # everybody else

    def change_spec(self, spec: str) -> None:
        """Act as a user: apply another spec."""
        self.spec = spec
        self._apply_spec()

    def run_jobs(self, component: str | None = None, *, end: bool = True) -> None:
        """Create pods for the unfinished Jobs of a component (None: of all) and let them succeed."""
        for job in self.api.list("Job"):
            if (
                is_finished(job)
                or not is_of_a_stage(job)
                or component not in (None, label(job, names.COMPONENT_LABEL))
            ):
                continue
            if end and finish_job(self.api, job):
                self.done.add((label(job, names.COMPONENT_LABEL), label(job, names.FINGERPRINT_LABEL)))
            elif not end:
                start_pod(self.api, job)

    def _meanwhile(self) -> None:
        """Act between two requests of a pass. The watch of Jobs delivers first."""
        self.run_jobs()
        self.roll_out()
        self.tell("Job")
        if 1 in self._caches:
            self.second_operator_passes(hears=True)

    def half_load_test(self) -> None:
        """Write the results of a running load test whose Job has not finished."""
        for job in self.api.list("Job"):
            if not is_finished(job) and label(job, names.COMPONENT_LABEL) == names.LOADTEST:
                publish(self.api, NAME, label(job, names.FINGERPRINT_LABEL))

    def roll_out(self, ready: int | None = None) -> None:
        """Act as the Deployment controller."""
        for deployment in filter(is_of_a_stage, self.api.list("Deployment")):
            if roll_out(self.api, deployment, ready=ready):
                self.done.add((names.SERVE, deployment["metadata"]["annotations"][names.SERVING_FINGERPRINT]))

    def scale(self, replicas: int | None = None) -> bool:
        """Act as the autoscaler: set the replicas, by default the minimum. Return whether they changed."""
        scalers = [item for kind in (HPA, SCALED_OBJECT) for item in self.api.list(kind)]
        scalers = [item for item in scalers if self._is_of_the_present(item)]
        if self.strangers.has("Deployment", names.serving_name(NAME)):
            return False
        return any([scale(self.api, item, replicas) for item in scalers])

    def expire(self) -> None:
        """Delete finished Jobs that the status records, with their pods, as after their TTL."""
        if 1 in self._caches:
            self.hear(1)  # no watch is as late as a TTL is long
        recorded = self.recorded()
        for job in self.api.list("Job"):
            mark = (label(job, names.COMPONENT_LABEL), label(job, names.FINGERPRINT_LABEL))
            if is_finished(job) and mark[1] in recorded:
                self.api.delete("Job", job["metadata"]["name"])
        self.collect_garbage()

    def lose(self, kind: str) -> None:
        """Act as a user: delete all children of a kind; of Jobs and pods only running ones, to keep results."""
        for item in self._not_strangers(kind):
            ended = is_finished(item) if kind == "Job" else item.get("status", {}).get("phase") == "Succeeded"
            if not ended:
                self.api.delete(kind, item["metadata"]["name"])
        self.collect_garbage()

    def edit(self, kind: str) -> None:
        """Act as a user: change fields of the operator in the children of a kind."""
        for item in self._not_strangers(kind):
            self.api.merge(kind, item["metadata"]["name"], EDITS[kind])

    def recreate(self) -> None:
        """Act as a user: delete the resource and create it again."""
        self.api.delete(KIND, NAME)
        self.collect_garbage()
        self._forget_what_is_gone()
        self._claim = None
        self._apply_spec()

    def orphan(self) -> None:
        """Delete the resource with `--cascade=orphan` and create it again. Its children still exist.

        The garbage collector removes the owner references before the resource is deleted.
        """
        model = self.api.get(KIND, NAME)
        assert model is not None
        for _, kind, _ in CHILD_KINDS:
            for item in self.api.list(kind):
                if is_owned_by(item, model):
                    self.api.merge(kind, item["metadata"]["name"], {"metadata": {"ownerReferences": None}})
        self.api.delete(KIND, NAME)
        self.collect_garbage()
        claim = self.api.get("PersistentVolumeClaim", names.claim_name(NAME))
        is_ours = claim is not None and not self.strangers.has("PersistentVolumeClaim", names.claim_name(NAME))
        self._claim = claim["metadata"]["uid"] if claim and is_ours else None
        self._forget_what_is_gone()
        self._apply_spec()

    def _forget_what_is_gone(self) -> None:
        """The stages of a new resource that orphans prove: finished Jobs and the deployed version."""
        ended = [job for job in self.api.list("Job") if is_finished(job)]
        marks = {(label(job, names.COMPONENT_LABEL), label(job, names.FINGERPRINT_LABEL)) for job in ended}
        self._left_serving = {
            item["metadata"]["annotations"][names.SERVING_FINGERPRINT].partition(RESIZED)[0]
            for item in self._not_strangers("Deployment")
        }
        self.done &= marks | {(names.SERVE, fingerprint) for fingerprint in self._left_serving}

    def usurp(self, kind: str, *, labelled: bool, job: int = 0) -> None:
        """Delete a child, if it exists, and create a foreign object with its name.

        Claims that pods use are protected, and results of Jobs must not be lost, so both are kept.
        """
        name = NAMESAKES[kind][1]
        if kind == "Job":
            wanted = sorted(build_chain(SPECS[self.spec].build(), SETTINGS).job_names())
            name = wanted[job % len(wanted)]
        ours = self.api.get(kind, name)
        if ours is not None:
            is_kept = kind == "PersistentVolumeClaim" or (
                kind == "Job" and is_finished(ours) and label(ours, names.FINGERPRINT_LABEL) not in self.recorded()
            )
            if is_kept or self.strangers.has(kind, name):
                return
            self.api.delete(kind, name)
            self.collect_garbage()
        self.strangers.put(kind, name, OUR_LABELS if labelled else {"app": "forum"})

    def _is_stranger(self, item: Mapping[str, Any]) -> bool:
        return self.strangers.has(item["kind"], item["metadata"]["name"])

    def _not_strangers(self, kind: str) -> list[dict[str, Any]]:
        return [item for item in self.api.list(kind) if not self._is_stranger(item)]

    def collect_garbage(self) -> bool:
        """Whether there were any."""
        return bool(collect_garbage(self.api))

    # what must hold

    def _on_write(self, write: Write) -> None:
        self.writes.append(write)
        self.strangers.check_write(write)
        if write.path.endswith("/status"):
            assert "loadTest" not in write.body["status"], "the load test's part of the status was written"
        elif write.method != "DELETE" and "spec" in write.body and self._is_of_the_present(write.body):
            if write.body["kind"] == "Deployment":
                self._check_deployment(write.body)
            elif write.body["kind"] in (HPA, SCALED_OBJECT):
                self._check_autoscaler(write.body)
            elif write.body["kind"] == "Job" and write.created:
                self._check_new_job(write.body)

    def _is_of_the_present(self, body: Mapping[str, Any]) -> bool:
        """Whether the current resource owns the object. A late child of a deleted resource is garbage."""
        uid = (self.api.get(KIND, NAME) or {}).get("metadata", {}).get("uid")
        return uid in {owner["uid"] for owner in body["metadata"].get("ownerReferences", [])}

    def _check_deployment(self, body: Mapping[str, Any]) -> None:
        fingerprint = body["metadata"]["annotations"][names.SERVING_FINGERPRINT].partition(RESIZED)[0]
        if fingerprint not in self._left_serving:
            self._check_order(fingerprint)
        self._check_image(body)
        autoscaled = [*self.api.list(HPA), *self.api.list(SCALED_OBJECT)]
        came_back, self.handed_over = self.handed_over, names.HANDED_TO in body["metadata"]["annotations"]
        if self.handed_over:
            assert body["spec"]["replicas"] == 0, "pods serve on the GPU that was handed over"
        elif "autoscaled" in self.spec and autoscaled and not came_back:
            model = self.api.get(KIND, NAME)
            generation = (model or {}).get("status", {}).get("observedGeneration")
            if model is not None and generation == model["metadata"]["generation"]:
                assert "replicas" not in body["spec"], "the autoscaler's replicas were written"

    def _check_image(self, body: Mapping[str, Any]) -> None:
        """Check that the serving image does not change while the serving fingerprint is unchanged."""
        live = self.api.get("Deployment", body["metadata"]["name"])
        assert live is not None
        fingerprint, before = body["metadata"]["annotations"][names.SERVING_FINGERPRINT], self._rolled_out
        self._rolled_out = (live["metadata"]["uid"], fingerprint, image_of(body))
        if before is not None and before[:2] == self._rolled_out[:2]:
            assert before == self._rolled_out, "another version of the operator rolled out its image by itself"

    def _check_autoscaler(self, body: Mapping[str, Any]) -> None:
        (other,) = {HPA, SCALED_OBJECT} - {body["kind"]}
        there = [item["metadata"]["name"] for item in self.api.list(other) if self._is_of_the_present(item)]
        assert not there, f"two autoscalers of one Deployment: {body['kind']} beside {other} {there}"

    def _check_new_job(self, body: Mapping[str, Any]) -> None:
        component, fingerprint = label(body, names.COMPONENT_LABEL), label(body, names.FINGERPRINT_LABEL)
        twins = [
            job["metadata"]["name"]
            for job in self.api.list("Job")
            if label(job, names.COMPONENT_LABEL) == component
            and label(job, names.FINGERPRINT_LABEL) == fingerprint
        ]
        assert twins == [body["metadata"]["name"]], f"two Jobs of one fingerprint: {twins}"
        assert fingerprint not in self.recorded(), f"{component} is done and was begun again"
        self._check_order(fingerprint)

    def _check_order(self, fingerprint: str) -> None:
        missing = [stage for stage in PREDECESSORS[fingerprint] if stage not in self.done]
        assert not missing, f"begun before its predecessors {missing} were done"

    def _check_obsolete(self) -> None:
        """Check that no Job of an earlier spec is running."""
        wanted = build_chain(SPECS[self.spec].build(), SETTINGS).job_names()
        unfinished = [job for job in self.api.list("Job") if not is_finished(job)]
        running = {job["metadata"]["name"] for job in unfinished if self._is_of_the_present(job)}
        assert running <= wanted, f"Jobs of an earlier spec run on: {running - wanted}"

    def recorded(self) -> set[str]:
        """Fingerprints of the succeeded stages in the stored status."""
        status = (self.api.get(KIND, NAME) or {}).get("status", {})
        records = [part for part in status.values() if isinstance(part, Mapping)]
        return {part["fingerprint"] for part in records if part.get("outcome") == "Succeeded"}

    def converge(self) -> None:
        """Remove faults and foreign objects, and run all actors until nothing changes."""
        self.strangers.take_away()
        for which in sorted(self._caches):
            self.reconcile(which=which)
        for _ in range(ROUNDS):
            if not self.round():
                claim = self.api.get("PersistentVolumeClaim", names.claim_name(NAME)) or {"metadata": {}}
                assert self._claim in (None, claim["metadata"].get("uid")), "a claim that was orphaned is lost"
                return
        last = [(write.method, write.path) for write in self.writes[-4:]]
        raise AssertionError(f"the operator does not come to rest: {last}")

    def round(self) -> bool:
        """Deliver events, run a pass if there were any, and run all actors. Return whether anything happened."""
        before, news = len(self.writes), any([self.hear(which) for which in self._caches])
        # a pass that wrote the status is told of it by the watch of the resource, although the mirrors know already
        if news or before > self._heard or not self.writes:
            self._heard = before
            for which in sorted(self._caches):
                self.reconcile(which=which)
            self._check_obsolete()
        return self.act() or news or len(self.writes) > before

    def act(self) -> bool:
        """Run all actors. Return whether anything happened."""
        unfinished = [job for job in self.api.list("Job") if is_of_a_stage(job) and not is_finished(job)]
        behind = [item for item in self.api.list("Deployment") if is_of_a_stage(item) and not is_rolled_out(item)]
        self.run_jobs()
        if behind:
            self.roll_out()
        moved = bool(self.scale() or unfinished or behind)
        waits = any(not is_finished(job) for job in self.api.list("Job"))  # maybe for a GPU that garbage holds
        if waits or not moved:
            moved = self.collect_garbage() or moved
        return moved

    def hear(self, which: int = 0) -> bool:
        """Deliver all pending events. Return whether there were any."""
        return any([self.tell(kind, which) for _, kind, _ in CHILD_KINDS] + [self.tell_model(which)])

    def hear_and_reconcile(self, fault: Fault | None = None) -> None:
        """The most frequent steps."""
        self.hear()
        self.reconcile(fault)

    def check_rest(self) -> None:
        """Check that passes change nothing, even those of a new operator."""
        before = len(self.writes)
        for which in sorted(self._caches):
            for _ in range(3):
                self.reconcile(which=which)
            self.restart(which)
            self.reconcile(which=which)
        assert self.writes[before:] == [], "written although nothing changed"

    def outcome(self) -> dict[str, Any]:
        """The status without times, and the names of the children except Jobs, which may have been deleted."""
        model, deployment = self.api.get(KIND, NAME), self.api.get("Deployment", names.serving_name(NAME))
        assert model is not None
        version = version_of(deployment["metadata"]["annotations"]) if deployment else None
        status = settled_status(own_part(read_status(model)), version, skewed=self.skewed)
        return {"status": status, "children": sorted(self.children())}

    def children(self) -> dict[str, dict[str, Any]]:
        """The content of the children except Jobs and pods, by kind and name, without identity and status."""
        found = {
            f"{kind}/{item['metadata']['name']}": {
                **{key: value for key, value in item.items() if key not in ("metadata", "status")},
                "labels": item["metadata"]["labels"],
            }
            for kind in GROUPS
            if kind not in (KIND, "Job", "Pod")
            for item in self.api.list(kind)
            if label(item, names.MODEL_LABEL)
        }
        deployment = f"Deployment/{names.serving_name(NAME)}"
        if self.skewed and deployment in found:
            found[deployment] = settled_deployment(found[deployment])
        return found

    def _apply_spec(self) -> None:
        self.api.apply(KIND, NAME, {**SPECS[self.spec].raw(), "metadata": {"name": NAME}}, "person")


EDITS: Mapping[str, dict[str, Any]] = {
    "Deployment": {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}},
    # with ours beside it, two ports of one name: which the API server refuses
    "Service": {"spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 9999, "protocol": "TCP"}]}},
    "Role": {"rules": []},
    HPA: {"spec": {"maxReplicas": 7}},
    SCALED_OBJECT: {"spec": {"maxReplicaCount": 7}},
    INGRESS: {"spec": {"rules": [{"host": "evil.example"}]}},
    HTTP_ROUTE: {"spec": {"hostnames": ["evil.example"]}},
}
