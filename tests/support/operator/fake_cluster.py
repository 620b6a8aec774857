"""An in-memory cluster with the API server behavior that the operator depends on.

It rejects the creation of existing objects and changes of Jobs, keeps status.loadTest of the other field manager, and
counts writes. Methods simulate kubelets and controllers: finish a Job, roll out a Deployment, write load test results.
"""

from __future__ import annotations

import copy
from typing import Any

from support.builders import NOW, evaluation_result, quantization_result, training_result
from toxicity_api.base import KIND
from toxicity_api.results import StageResult
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.decide.events import Event
from toxicity_operator.errors import ClusterError
from toxicity_operator.manifests.autoscaler import HPA, SCALED_OBJECT
from toxicity_operator.manifests.common import content_hash
from toxicity_operator.model import Identity


class FakeCluster:
    """The objects of one namespace."""

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
        self.pods_linger = False
        """Pods of a deleted Job go on until they are told to end, as on a node that does not answer."""

        self.fixed_size = False
        """The storage class does not allow claims to grow."""

        self.sources: dict[str, str] = {}
        """Versions of ConfigMaps and Secrets, by kind/name."""

        self._version = 0

    # the Cluster protocol

    def get_model(self, namespace: str, name: str) -> Raw | None:
        self.looks += 1
        return copy.deepcopy(self.model)

    def list_children(self, namespace: str, name: str) -> list[Raw]:
        found = [
            item
            for item in self.objects.values()
            if item["metadata"].get("labels", {}).get(names.MODEL_LABEL) == name
        ]
        return copy.deepcopy(sorted(found, key=lambda item: item["kind"] == "Pod"))

    def missing_kinds(self) -> frozenset[str]:
        return frozenset(self.kinds_without_crd)

    def create(self, body: Raw) -> None:
        self._count_write()
        kind, name = body["kind"], body["metadata"]["name"]
        if kind in self.kinds_without_crd:
            raise ClusterError("the server could not find the requested resource", 404)
        if (kind, name) in self.objects:
            raise ClusterError(f'{kind} "{name}" already exists', 409)
        self.ever_created.append((kind, name))
        wrote = {"f:metadata": {"f:labels": {f"f:{names.MODEL_LABEL}": {}}}}
        entry = {"manager": names.FIELD_MANAGER, "operation": "Update", "apiVersion": "v1", "fieldsV1": wrote}
        self._put(body, {"uid": f"uid-of-{kind}-{name}-{len(self.ever_created)}", "managedFields": [entry]})

    def read(self, body: Raw) -> Raw | None:
        if body["kind"] == KIND:
            return copy.deepcopy(self.model)
        return copy.deepcopy(self.objects.get((body["kind"], body["metadata"]["name"])))

    def apply(self, body: Raw, live: Raw) -> None:
        self._count_write()
        old = self._as_read(live)
        if body["kind"] == "Job" and old["spec"] != body["spec"]:
            raise ClusterError(f'Job "{old["metadata"]["name"]}" is invalid: field is immutable', 422)
        kept = {key: old["metadata"][key] for key in ("uid", "managedFields") if key in old["metadata"]}
        kept["generation"] = old["metadata"].get("generation", 1) + (old.get("spec") != body.get("spec"))
        self._put(body, kept, {"status": old["status"]} if "status" in old else {})

    def take_over(self, live: Raw, controller: Raw) -> Raw:
        self._count_write()
        old = self._as_read(live)
        old["metadata"]["ownerReferences"] = [*old["metadata"].get("ownerReferences", []), controller]
        self._touch(old)
        return copy.deepcopy(old)

    def hold(self, body: Raw) -> None:
        self._count_write()
        found = self.objects["Deployment", body["metadata"]["name"]]
        assert found["metadata"]["uid"] == body["metadata"]["uid"]
        assert found["spec"]["replicas"] == body["spec"]["replicas"]
        self.held.append(found["spec"]["replicas"])

    def overwrite(self, body: Raw) -> None:
        self._count_write()
        found = self.objects[body["kind"], body["metadata"]["name"]]
        assert found["metadata"]["uid"] == body["metadata"]["uid"]
        found["metadata"].setdefault("labels", {}).update(body["metadata"].get("labels", {}))
        if "spec" in body:
            if self.fixed_size:
                raise ClusterError(
                    'persistentvolumeclaims "x" is forbidden: only dynamically provisioned pvc', 403
                )
            found["spec"]["resources"]["requests"] |= body["spec"]["resources"]["requests"]
        self._touch(found)

    def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        self._count_write()
        if self.objects.get((kind, name), {}).get("metadata", {}).get("uid") == uid:
            del self.objects[kind, name]
            if not self.pods_linger:
                self.end_pods_of(uid)

    def _as_read(self, live: Raw) -> dict[str, Any]:
        """The object, if it has not changed since it was read."""
        found = self.objects.get((live["kind"], live["metadata"]["name"]))
        condition = ("uid", "resourceVersion")
        if found is None or any(found["metadata"][key] != live["metadata"][key] for key in condition):
            raise ClusterError("the object has been modified", 409)
        return found

    def _put(self, body: Raw, metadata: Raw, rest: Raw | None = None) -> None:
        new = {**copy.deepcopy(dict(body)), **(rest or {})}
        new["metadata"] |= metadata
        self._touch(new)
        self.objects[body["kind"], body["metadata"]["name"]] = new
        if body["kind"] == "Deployment":
            self._keep_revision(new)

    def _touch(self, item: dict[str, Any]) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)

    def read_version(self, kind: str, namespace: str, name: str) -> str:
        return self.sources.get(f"{kind}/{name}", "absent")

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
        """Act as a user: apply another spec."""
        assert self.model is not None
        self.model["spec"] = copy.deepcopy(spec)
        self.model["metadata"]["generation"] += 1

    def names_of(self, kind: str) -> list[str]:
        """Names of the existing objects of a kind."""
        return sorted(name for k, name in self.objects if k == kind)

    def job(self, component: str) -> dict[str, Any]:
        """The only unfinished Job of a component. Fails if there is not exactly one."""
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
        """Run the Job's pod with this `log` and return its name. A second call replaces the log of the same pod."""
        job = self.job(component)
        name = self._running_pod(job) or self._add_pod(job, {"running": {"startedAt": NOW}})
        self.logs[name] = list(log)
        return name

    def leave_pod_pending(self, component: str, words: str) -> None:
        """Make the Job's pod unschedulable, with `words` as the scheduler's message."""
        pod = self.objects["Pod", self._add_pod(self.job(component), {"waiting": {}})]
        unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        pod["status"]["conditions"] = [unscheduled]

    def schedule_pods(self) -> None:
        """Schedule the pending pods and run them."""
        for kind, name in self.objects:
            pod = self.objects[kind, name]
            if kind == "Pod" and pod["status"].pop("conditions", None):
                pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": NOW}}
                self.logs[name] = []

    def kill_pod(self, component: str) -> None:
        """Fail the Job's running pod before a new one is created."""
        self._end_pod(self.job(component), {"exitCode": 137, "reason": "Error"})

    def finish_job(self, component: str, result: StageResult | None) -> None:
        """Complete the Job. Its pod has `result` as termination message."""
        job = self.job(component)
        message = "" if result is None else result.to_termination_message()
        self._end_pod(job, {"exitCode": 0, "reason": "Completed", "message": message})
        done = {"type": "Complete", "status": "True", "lastTransitionTime": NOW}
        job["status"] = {"startTime": NOW, "completionTime": NOW, "conditions": [done]}

    def fail_job(self, component: str, terminated: dict[str, Any], reason: str = "BackoffLimitExceeded") -> None:
        """Fail the Job. Its last pod has the state `terminated`."""
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

    def roll_out(self, ready: int | None = None, replicas: int | None = None, updated: int | None = None) -> None:
        """The Deployment controller has caught up: so many pods exist, are of the newest template, are ready.

        By default as many as are asked for.
        """
        (name,) = self.names_of("Deployment")
        deployment = self.objects["Deployment", name]
        replicas = self._asked_replicas(deployment) if replicas is None else replicas
        deployment["status"] = {
            "observedGeneration": deployment["metadata"].get("generation", 1),
            "replicas": replicas,
            "updatedReplicas": replicas if updated is None else updated,
            "readyReplicas": replicas if ready is None else ready,
        }

    def _asked_replicas(self, deployment: dict[str, Any]) -> int:
        """The replicas of the Deployment, or else the minimum of its autoscaler."""
        if "replicas" in deployment["spec"]:
            return int(deployment["spec"]["replicas"])
        scalers = [item["spec"] for (kind, _), item in self.objects.items() if kind in (HPA, SCALED_OBJECT)]
        return next((int(spec.get("minReplicas", spec.get("minReplicaCount", 1))) for spec in scalers), 1)

    def stall(self) -> None:
        """Let the newest template exceed the progress deadline. Pods of the old one may still exist."""
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
        """Write status.loadTest with the load test's field manager, then finish its Job."""
        assert self.model is not None
        self.model.setdefault("status", {})["loadTest"] = self.load_test_figures(state)
        self.finish_job("loadtest", None)

    def load_test_figures(self, state: str) -> dict[str, Any]:
        """Results of the running load test Job."""
        fingerprint = self.job("loadtest")["metadata"]["labels"][names.FINGERPRINT_LABEL]
        bucket = {"name": "1-100", "requests": 300, "failures": 0, "actualRps": 9.98, "p95Seconds": 0.18}
        return {
            "fingerprint": fingerprint, "runId": "1", "state": state, "users": 16, "requestedRps": 10.0,
            "buckets": [bucket], "actualRps": 9.98, "p95Seconds": 0.18, "maxLengthAtRequestedRps": 100,
        }  # fmt: skip

    def end_pods_of(self, uid: str) -> None:
        """Delete the pods of deleted Jobs."""
        gone = [
            key
            for key, item in self.objects.items()
            if key[0] == "Pod" and any(owner["uid"] == uid for owner in item["metadata"]["ownerReferences"])
        ]
        for key in gone:
            del self.objects[key]

    def note_revision(self) -> None:
        """Act as the Deployment controller: process the current template."""
        for (kind, _), item in list(self.objects.items()):
            if kind == "Deployment":
                self._keep_revision(item)

    def put_serving_pod(self, name: str, pod_status: Raw) -> None:
        """A pod of the Deployment's current version."""
        (deployment,) = (item for (kind, _), item in self.objects.items() if kind == "Deployment")
        revision = self.objects["ReplicaSet", self._keep_revision(deployment)]
        owner = {"kind": "ReplicaSet", "name": revision["metadata"]["name"], "uid": revision["metadata"]["uid"]}
        template = copy.deepcopy(deployment["spec"]["template"]["metadata"])
        metadata = {"name": name, "uid": f"uid-of-pod-{name}", "ownerReferences": [{**owner, "controller": True}]}
        self.objects["Pod", name] = {"kind": "Pod", "metadata": {**template, **metadata}, "status": {**pod_status}}

    def remove(self, kind: str) -> None:
        """Delete all objects of a kind."""
        for name in self.names_of(kind):
            del self.objects[kind, name]

    def _keep_revision(self, deployment: dict[str, Any]) -> str:
        """The name of the ReplicaSet of this pod template."""
        template = copy.deepcopy(deployment["spec"]["template"])
        digest = content_hash(template)
        template["metadata"]["labels"]["pod-template-hash"] = digest
        owner = {
            "kind": "Deployment",
            "name": deployment["metadata"]["name"],
            "uid": deployment["metadata"]["uid"],
            "controller": True,
        }
        metadata = {
            "name": f"{owner['name']}-{digest}",
            "uid": f"uid-of-revision-{digest}",
            "labels": template["metadata"]["labels"],
        }
        self.objects["ReplicaSet", metadata["name"]] = {
            "kind": "ReplicaSet", "metadata": metadata | {"ownerReferences": [owner]}, "spec": {"template": template},
        }  # fmt: skip
        return str(metadata["name"])

    def _running_pod(self, job: dict[str, Any]) -> str:
        """The name of the Job's running pod; empty if there is none."""
        for (kind, name), item in self.objects.items():
            owners = item["metadata"].get("ownerReferences", []) if kind == "Pod" else []
            own = any(owner["uid"] == job["metadata"]["uid"] for owner in owners)
            if own and "running" in item["status"]["containerStatuses"][0]["state"]:
                return name
        return ""

    def _end_pod(self, job: dict[str, Any], terminated: dict[str, Any]) -> None:
        name = self._running_pod(job) or self._add_pod(job, {})
        status = self.objects["Pod", name]["status"]
        status["phase"] = "Failed" if terminated["exitCode"] else "Succeeded"
        status["containerStatuses"][0]["state"] = {"terminated": terminated}

    def _add_pod(self, job: dict[str, Any], state: dict[str, Any]) -> str:
        name, component = job["metadata"]["name"], job["metadata"]["labels"][names.COMPONENT_LABEL]
        labels = dict(job["metadata"]["labels"])
        status = {"name": component, "ready": False, "state": state}
        count = len(self.names_of("Pod"))
        created = f"2030-01-01T00:00:{count:02}Z"
        metadata: dict[str, Any] = {"name": f"{name}-{count}", "labels": labels, "creationTimestamp": created}
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
        metadata |= {"ownerReferences": [owner], "uid": f"uid-of-pod-{name}-{count}"}
        self.objects["Pod", f"{name}-{count}"] = {
            "kind": "Pod", "metadata": metadata, "status": {"phase": "Running", "containerStatuses": [status]},
        }  # fmt: skip
        return f"{name}-{count}"
