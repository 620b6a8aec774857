"""An in-memory cluster that behaves like an API server where the operator depends on it.

It refuses to change a Job, keeps status.loadTest of the other field manager, counts writes, and can be told what
kubelets and controllers would do: finish a Job, roll a Deployment out, write load-test figures.
"""

from __future__ import annotations

import copy
from typing import Any

from builders import NOW, evaluation_result, quantization_result, training_result
from toxicity_api.results import StageResult
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import ClusterError
from toxicity_operator.manifests.common import content_hash
from toxicity_operator.model import Identity


class FakeCluster:
    """State of one namespace's worth of objects."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.model: dict[str, Any] | None = copy.deepcopy(model)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[Event] = []
        self.writes = 0
        self.writes_until_failure: int | None = None
        self.ever_created: list[tuple[str, str]] = []
        self.logs: dict[str, list[str]] = {}
        self.log_failure: ClusterError | None = None
        self.looks = 0
        self.told: dict[str, list[dict[str, Any]]] = {}
        self.asked_for_events: list[str] = []
        self.event_failure: ClusterError | None = None
        self.held: list[int] = []
        self.kinds_without_crd: set[str] = set()

    # the Cluster protocol

    def get_model(self, namespace: str, name: str) -> Raw | None:
        self.looks += 1
        return copy.deepcopy(self.model)

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        found = [
            item for item in self.objects.values() if item["metadata"]["labels"].get(names.MODEL_LABEL) == name
        ]
        return copy.deepcopy(sorted(found, key=lambda item: item["kind"] == "Pod"))

    def missing_kinds(self) -> frozenset[str]:
        return frozenset(self.kinds_without_crd)

    def apply(self, body: Raw) -> None:
        self._count_write()
        kind, name = body["kind"], body["metadata"]["name"]
        if kind in self.kinds_without_crd:
            raise ClusterError("the server could not find the requested resource", 404)
        old = self.objects.get((kind, name))
        if old is None:
            self.ever_created.append((kind, name))
        elif old["metadata"].get("ownerReferences") != body["metadata"].get("ownerReferences"):
            raise ClusterError("Only one reference can have Controller set to true", 422)
        elif kind == "Job" and old["spec"] != body["spec"]:
            raise ClusterError(f'Job "{name}" is invalid: spec.template: field is immutable', 422)
        new = copy.deepcopy(dict(body))
        new["metadata"]["uid"] = f"uid-of-{kind}-{name}"
        if old is not None:
            changed = old.get("spec") != new.get("spec")
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + changed
            if "status" in old:
                new["status"] = old["status"]
        self.objects[kind, name] = new
        if kind == "Deployment":
            self._keep_revision(new)

    def hold(self, body: Raw) -> None:
        self._count_write()
        found = self.objects["Deployment", body["metadata"]["name"]]
        assert found["metadata"]["uid"] == body["metadata"]["uid"]
        assert found["spec"]["replicas"] == body["spec"]["replicas"]
        self.held.append(found["spec"]["replicas"])

    def overwrite(self, body: Raw) -> None:
        raise AssertionError("nothing is refused here but what overwriting cannot cure")

    def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        self._count_write()
        self.objects.pop((kind, name), None)

    def apply_status(self, identity: Identity, status: Raw) -> None:
        self._count_write()
        assert self.model is not None
        assert "loadTest" not in status, "the operator must not own the load test's part"
        others = {key: value for key, value in self.model.get("status", {}).items() if key == "loadTest"}
        self.model["status"] = copy.deepcopy({**status, **others})

    def record_event(self, identity: Identity, event: Event) -> None:
        self.events.append(event)

    def read_log_end(self, namespace: str, pod: str, container: str, lines: int) -> list[str]:
        if self.log_failure is not None:
            raise self.log_failure
        (status,) = self.objects["Pod", pod]["status"]["containerStatuses"]
        assert status["name"] == container
        assert "running" in status["state"], "a container that does not run may have no log"
        return self.logs[pod][-lines:]

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Raw]:
        self.asked_for_events.append(uid)
        if self.event_failure is not None:
            raise self.event_failure
        return copy.deepcopy(list(self.told.get(uid, [])[:limit]))

    def _count_write(self) -> None:
        if self.writes_until_failure is not None:
            if self.writes_until_failure == 0:
                raise ClusterError("connection lost", 0)
            self.writes_until_failure -= 1
        self.writes += 1

    # what others do

    def change_spec(self, spec: dict[str, Any]) -> None:
        """A person applies another spec."""
        assert self.model is not None
        self.model["spec"] = copy.deepcopy(spec)
        self.model["metadata"]["generation"] += 1

    def names_of(self, kind: str) -> list[str]:
        """Names of the existing objects of a kind."""
        return sorted(name for k, name in self.objects if k == kind)

    def job(self, component: str) -> dict[str, Any]:
        """The one Job of a component that is not finished. Fails when there is none or more than one."""
        jobs = [
            item
            for (kind, _), item in self.objects.items()
            if kind == "Job"
            and item["metadata"]["labels"][names.COMPONENT_LABEL] == component
            and not item.get("status", {}).get("conditions")
        ]
        assert len(jobs) == 1, f"{len(jobs)} unfinished Jobs of {component}"
        return jobs[0]

    def run_pod(self, component: str, *log: str) -> str:
        """The Job's pod runs and has said `log`; its name. Called again, the same pod has gone on to say `log`."""
        job = self.job(component)
        name = self._running_pod(job) or self._add_pod(job, {"running": {"startedAt": NOW}})
        self.logs[name] = list(log)
        return name

    def leave_pod_pending(self, component: str, words: str) -> None:
        """The scheduler finds no place for the pod of the Job, for the reason in `words`."""
        pod = self.objects["Pod", self._add_pod(self.job(component), {"waiting": {}})]
        unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        pod["status"]["conditions"] = [unscheduled]

    def schedule_pods(self) -> None:
        """There is a place for the pods that wait, and they run."""
        for kind, name in self.objects:
            pod = self.objects[kind, name]
            if kind == "Pod" and pod["status"].pop("conditions", None):
                pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": NOW}}
                self.logs[name] = []

    def kill_pod(self, component: str) -> None:
        """The Job's running pod fails, and no other has been made yet."""
        self._end_pod(self.job(component), {"exitCode": 137, "reason": "Error"})

    def finish_job(self, component: str, result: StageResult | None) -> None:
        """The Job completes; its pod leaves `result` as its termination message."""
        job = self.job(component)
        message = "" if result is None else result.to_termination_message()
        self._end_pod(job, {"exitCode": 0, "reason": "Completed", "message": message})
        done = {"type": "Complete", "status": "True", "lastTransitionTime": NOW}
        job["status"] = {"startTime": NOW, "completionTime": NOW, "conditions": [done]}

    def fail_job(self, component: str, terminated: dict[str, Any], reason: str = "BackoffLimitExceeded") -> None:
        """The Job fails; its last pod ended as `terminated` says."""
        job = self.job(component)
        self._end_pod(job, terminated)
        failed = {
            "type": "Failed",
            "status": "True",
            "lastTransitionTime": NOW,
            "reason": reason,
            "message": "no more",
        }
        job["status"] = {"startTime": NOW, "conditions": [failed]}

    def finish_training(self, f1: float = 0.9) -> None:
        fingerprint = self.job("train")["metadata"]["labels"][names.FINGERPRINT_LABEL]
        self.finish_job("train", training_result(fingerprint, f1))

    def finish_quantization(self, f1: float = 0.88, drop: float = 0.02) -> None:
        fingerprint = self.job("quantize")["metadata"]["labels"][names.FINGERPRINT_LABEL]
        self.finish_job("quantize", quantization_result(fingerprint, f1, drop))

    def finish_evaluation(self, f1: float = 0.88, drop: float | None = 0.02) -> None:
        fingerprint = self.job("evaluate")["metadata"]["labels"][names.FINGERPRINT_LABEL]
        self.finish_job("evaluate", evaluation_result(fingerprint, f1, drop))

    def roll_out(self, ready: int = 1, replicas: int = 1, updated: int | None = None) -> None:
        """The Deployment controller has caught up: so many pods exist, are of the newest template, are ready."""
        (name,) = self.names_of("Deployment")
        deployment = self.objects["Deployment", name]
        deployment["status"] = {
            "observedGeneration": deployment["metadata"].get("generation", 1),
            "replicas": replicas,
            "updatedReplicas": replicas if updated is None else updated,
            "readyReplicas": ready,
        }

    def stall(self) -> None:
        """The newest template's pods did not become ready within the deadline; the old ones may still be there."""
        (name,) = self.names_of("Deployment")
        deployment = self.objects["Deployment", name]
        stalled = {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "late",
        }
        deployment["status"] |= {
            "observedGeneration": deployment["metadata"].get("generation", 1), "updatedReplicas": 0,
            "conditions": [stalled],
        }  # fmt: skip

    def finish_load_test(self, state: str = "Complete") -> None:
        """The load test writes its figures under its own manager, then its Job ends."""
        assert self.model is not None
        self.model.setdefault("status", {})["loadTest"] = self.load_test_figures(state)
        self.finish_job("loadtest", None)

    def load_test_figures(self, state: str) -> dict[str, Any]:
        """Figures of the load-test Job that runs."""
        fingerprint = self.job("loadtest")["metadata"]["labels"][names.FINGERPRINT_LABEL]
        bucket = {"name": "1-100", "requests": 300, "failures": 0, "actualRps": 9.98, "p95Seconds": 0.18}
        return {
            "fingerprint": fingerprint, "runId": "1", "state": state, "users": 16, "requestedRps": 10.0,
            "buckets": [bucket], "actualRps": 9.98, "p95Seconds": 0.18, "maxLengthAtRequestedRps": 100,
        }  # fmt: skip

    def remove(self, kind: str) -> None:
        """Every object of a kind is gone, as after a TTL or by a person's hand."""
        for name in self.names_of(kind):
            del self.objects[kind, name]

    def _keep_revision(self, deployment: dict[str, Any]) -> None:
        """The Deployment controller's ReplicaSet of this pod template; one per template."""
        template = copy.deepcopy(deployment["spec"]["template"])
        digest = content_hash(template)
        template["metadata"]["labels"]["pod-template-hash"] = digest
        owner = {
            "kind": "Deployment",
            "name": deployment["metadata"]["name"],
            "uid": deployment["metadata"]["uid"],
        }
        metadata = {"name": f"{owner['name']}-{digest}", "labels": template["metadata"]["labels"]}
        self.objects["ReplicaSet", metadata["name"]] = {
            "kind": "ReplicaSet", "metadata": metadata | {"ownerReferences": [owner]}, "spec": {"template": template},
        }  # fmt: skip

    def _running_pod(self, job: dict[str, Any]) -> str:
        """The name of the Job's running pod; empty when there is none."""
        for (kind, name), item in self.objects.items():
            owners = item["metadata"].get("ownerReferences", []) if kind == "Pod" else []
            own = any(owner["uid"] == job["metadata"]["uid"] for owner in owners)
            if own and "running" in item["status"]["containerStatuses"][0]["state"]:
                return name
        return ""

    def _end_pod(self, job: dict[str, Any], terminated: dict[str, Any]) -> None:
        name = self._running_pod(job) or self._add_pod(job, {})
        self.objects["Pod", name]["status"]["containerStatuses"][0]["state"] = {"terminated": terminated}

    def _add_pod(self, job: dict[str, Any], state: dict[str, Any]) -> str:
        name, component = job["metadata"]["name"], job["metadata"]["labels"][names.COMPONENT_LABEL]
        labels = dict(job["metadata"]["labels"])
        status = {"name": component, "ready": False, "state": state}
        count = len(self.names_of("Pod"))
        created = f"2030-01-01T00:00:{count:02}Z"
        metadata: dict[str, Any] = {"name": f"{name}-{count}", "labels": labels, "creationTimestamp": created}
        metadata["ownerReferences"] = [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]
        self.objects["Pod", f"{name}-{count}"] = {
            "kind": "Pod", "metadata": metadata, "status": {"containerStatuses": [status]},
        }  # fmt: skip
        return f"{name}-{count}"
