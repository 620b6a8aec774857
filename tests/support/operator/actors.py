"""Simulates the controllers, the kubelet, the load test and users of a cluster over HTTP.

All requests use `Api`, so the actors work with a real API server and with the in-memory one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from kubernetes import client

from support import builders
from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_api.results import StageResult
from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.kube.client import CHILD_KINDS

GROUPS = {
    kind: (f"/apis/{version}" if "/" in version else f"/api/{version}", plural)
    for version, kind, plural in ((f"{API_GROUP}/{API_VERSION}", KIND, PLURAL), *CHILD_KINDS)
}
"""By kind: the API group's path and the plural."""

LOADTEST_MANAGER = "toxicity-loadtest"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
TIMEOUT_SECONDS = 60


class RequestFailed(Exception):
    """An HTTP request failed."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Api:
    """Requests for the objects of one namespace, with the permissions of the client's user."""

    api_client: client.ApiClient
    namespace: str

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object; None if it does not exist."""
        try:
            return self.request("GET", self.path(kind, name))
        except RequestFailed as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str) -> list[dict[str, Any]]:
        """All objects of the kind, each with its `kind`."""
        return [{**item, "kind": kind} for item in self.request("GET", self.path(kind))["items"]]

    def create(self, kind: str, body: Raw) -> dict[str, Any]:
        return self.request("POST", self.path(kind), body, "application/json")

    def merge(self, kind: str, name: str, body: Raw, subresource: str = "", **query: str) -> dict[str, Any]:
        """Send a JSON merge patch."""
        return self.request("PATCH", self.path(kind, name) + subresource, body, MERGE, **query)

    def apply(self, kind: str, name: str, body: Raw, manager: str, subresource: str = "") -> dict[str, Any]:
        """Send a forced server-side apply with a field manager."""
        path = self.path(kind, name) + subresource
        return self.request("PATCH", path, body, APPLY, fieldManager=manager, force="true")

    def delete(self, kind: str, name: str) -> None:
        """Delete the object. A missing object is not an error."""
        try:
            grace = {"gracePeriodSeconds": "0"} if kind == "Pod" else {}
            query = {"propagationPolicy": "Background", **grace}
            self.request("DELETE", self.path(kind, name), None, "", **query)
        except RequestFailed as error:
            if error.status != 404:
                raise

    def path(self, kind: str, name: str = "") -> str:
        root, plural = GROUPS[kind]
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def request(
        self, method: str, path: str, body: Raw | None = None, content_type: str = "", /, **query: str
    ) -> dict[str, Any]:
        """Send a request and return the response as JSON. Raises RequestFailed for status 400 and above."""
        url = self.api_client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if content_type else {})
        answer = self.api_client.rest_client.pool_manager.request(
            method, url, body=None if body is None else json.dumps(body), headers=headers, timeout=TIMEOUT_SECONDS
        )
        if answer.status >= 400:
            raise RequestFailed(f"{method} {path}: {answer.status} {answer.data.decode()}", answer.status)
        found: dict[str, Any] = json.loads(answer.data)
        return found


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def label(item: Raw, key: str) -> str:
    return str(item["metadata"].get("labels", {}).get(key, ""))


def is_finished(job: Raw) -> bool:
    ends = {"Complete", "Failed"}
    return any(c["type"] in ends and c["status"] == "True" for c in job.get("status", {}).get("conditions", []))


def is_of_a_stage(item: Raw) -> bool:
    """Whether the operator created the Job or Deployment: a container is named after the component."""
    containers = item["spec"]["template"]["spec"]["containers"]
    return bool(containers[0]["name"] == label(item, names.COMPONENT_LABEL))


def is_owned_by(item: Raw, owner: Raw) -> bool:
    return any(o["uid"] == owner["metadata"]["uid"] for o in item["metadata"].get("ownerReferences", []))


def stage_result(component: str, fingerprint: str) -> StageResult | None:
    """The result document of a stage, from `builders`; empty for the load test."""
    maker = {
        names.TRAIN: "training_result",
        names.QUANTIZE: "quantization_result",
        "evaluate": "evaluation_result",
    }.get(component)
    if maker is None:
        return None
    made: StageResult = getattr(builders, maker)(fingerprint)
    return made


def start_pod(api: Api, job: Raw) -> dict[str, Any]:
    """Act as Job controller and kubelet: create and run the Job's pod, unless it needs the GPU and that is in use.

    A running pod is not changed. The pod of an earlier Job of the same name is deleted.
    """
    name, component = f"{job['metadata']['name']}-0", label(job, names.COMPONENT_LABEL)
    pod = api.get("Pod", name)
    if pod is not None and not is_owned_by(pod, job):
        api.delete("Pod", name)
        pod = None
    pod = pod or _make_pod(api, job, name)
    if pod.get("status", {}).get("phase", "Pending") != "Pending":
        return pod
    if asks_for_gpu(job) and not _schedule(api, name):
        return pod
    return _set_container(api, name, component, "Running", {"running": {"startedAt": timestamp()}})


def _schedule(api: Api, pod: str) -> bool:
    """Act as the scheduler: the only GPU is free if no serving pod uses it."""
    taken = any(item["status"].get("replicas", 0) > 0 for item in serving_by_gpu(api))
    scheduled = {"type": "PodScheduled", "status": "False" if taken else "True"}
    if taken:
        scheduled |= {"reason": "Unschedulable", "message": f"1 Insufficient {names.GPU_RESOURCE}."}
    api.merge("Pod", pod, {"status": {"phase": "Pending", "conditions": [scheduled]}}, "/status")
    return not taken


def asks_for_gpu(item: Raw) -> bool:
    """Whether the pods of a Job or Deployment request a GPU."""
    containers = item["spec"]["template"]["spec"]["containers"]
    return any(names.GPU_RESOURCE in container.get("resources", {}).get("limits", {}) for container in containers)


def serving_by_gpu(api: Api) -> list[dict[str, Any]]:
    """The Deployments with GPUs that the Deployment controller has processed."""
    return [item for item in api.list("Deployment") if asks_for_gpu(item) and "status" in item]


def is_gpu_with_a_job(api: Api) -> bool:
    """Whether the pod of a stage uses the GPU."""
    running = {
        pod["metadata"]["name"] for pod in api.list("Pod") if pod.get("status", {}).get("phase") == "Running"
    }
    return any(f"{job['metadata']['name']}-0" in running for job in api.list("Job") if asks_for_gpu(job))


def _make_pod(api: Api, job: Raw, name: str) -> dict[str, Any]:
    component = label(job, names.COMPONENT_LABEL)
    owner = {
        "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"],
        "controller": True,
    }  # fmt: skip
    metadata = {"name": name, "labels": job["metadata"]["labels"], "ownerReferences": [owner]}
    container = {"name": component, "image": "none", "terminationMessagePolicy": "FallbackToLogsOnError"}
    spec = {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False}
    return api.create("Pod", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def finish_job(api: Api, job: Raw) -> bool:
    """Let the Job succeed, with its result document or the load test's results.

    Return False if its pod cannot be scheduled.
    """
    name, component = job["metadata"]["name"], label(job, names.COMPONENT_LABEL)
    fingerprint = label(job, names.FINGERPRINT_LABEL)
    started = start_pod(api, job)
    if started.get("status", {}).get("phase", "Pending") == "Pending":
        return False
    pod = started["metadata"]["name"]
    if component == names.LOADTEST:
        publish(api, label(job, names.MODEL_LABEL), fingerprint)
    result = stage_result(component, fingerprint)
    message = {"message": result.to_termination_message()} if result else {}
    ended = {"exitCode": 0, "reason": "Completed", **message}
    _set_container(api, pod, component, "Succeeded", {"terminated": ended})
    now = timestamp()
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
    api.merge("Job", name, {"status": status}, "/status")
    return True


def end_beside_sidecar(api: Api, job: Raw) -> None:
    """The stage container succeeds while a sidecar keeps running, so the pod and the Job do not finish."""
    component, fingerprint = label(job, names.COMPONENT_LABEL), label(job, names.FINGERPRINT_LABEL)
    pod = start_pod(api, job)["metadata"]["name"]
    if component == names.LOADTEST:
        publish(api, label(job, names.MODEL_LABEL), fingerprint)
    result, now = stage_result(component, fingerprint), timestamp()
    message = {"message": result.to_termination_message()} if result else {}
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, **message}
    statuses = [
        _container_status(component, {"terminated": ended}),
        _container_status("mesh", {"running": {"startedAt": now}}),
    ]
    api.merge("Pod", pod, {"status": {"phase": "Running", "containerStatuses": statuses}}, "/status")
    api.merge("Job", job["metadata"]["name"], {"status": {"startTime": now, "active": 1}}, "/status")


def record_event(api: Api, about: Raw, reason: str, message: str) -> None:
    """Create a warning Event about an object."""
    metadata, now = about["metadata"], timestamp()
    body = {
        "metadata": {"generateName": f"{metadata['name']}.", "namespace": api.namespace},
        "involvedObject": {"kind": about["kind"], "namespace": api.namespace, "name": metadata["name"],
                           "uid": metadata["uid"]},
        "type": "Warning", "reason": reason, "message": message, "count": 1, "firstTimestamp": now,
        "lastTimestamp": now, "source": {"component": "controller"},
    }  # fmt: skip
    api.request("POST", f"/api/v1/namespaces/{api.namespace}/events", body, "application/json")


def publish(api: Api, model: str, fingerprint: str) -> None:
    """Act as the load test: write status.loadTest with its field manager."""
    bucket = {"name": "1-100", "requests": 300, "failures": 0, "actualRps": 9.98, "p95Seconds": 0.18}
    figures = {
        "fingerprint": fingerprint, "runId": "1", "state": "Complete", "users": 16, "requestedRps": 10.0,
        "buckets": [bucket], "actualRps": 9.98, "p95Seconds": 0.18, "maxLengthAtRequestedRps": 100,
    }  # fmt: skip
    body = {
        "apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND, "metadata": {"name": model},
        "status": {"loadTest": figures},
    }  # fmt: skip
    api.apply(KIND, model, body, LOADTEST_MANAGER, "/status")


def roll_out(api: Api, deployment: Raw, *, ready: int | None = None) -> int:
    """Act as the Deployment controller: roll out the newest template with `ready` ready pods, or with all.

    No pod is ready if the Deployment has no replicas, or if its pods wait for a GPU.
    """
    replicas = deployment["spec"].get("replicas", 1)
    ready = replicas if ready is None else min(ready, replicas)
    if replicas == 0 or (asks_for_gpu(deployment) and is_gpu_with_a_job(api)):
        ready = 0
    status = {
        "observedGeneration": deployment["metadata"]["generation"], "replicas": replicas,
        "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
    }  # fmt: skip
    api.merge("Deployment", deployment["metadata"]["name"], {"status": status}, "/status")
    return ready


def is_rolled_out(deployment: Raw) -> bool:
    status = deployment.get("status", {})
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas", 0) >= deployment["spec"]["replicas"])


def scale(api: Api, autoscaler: Raw, replicas: int | None = None) -> bool:
    """Act as the autoscaler: set the replicas, by default the minimum. Return whether they changed.

    A Deployment with 0 replicas is ignored.
    """
    spec = autoscaler["spec"]
    fewest = spec["minReplicaCount"] if autoscaler["kind"] == "ScaledObject" else spec["minReplicas"]
    name = spec["scaleTargetRef"]["name"]
    deployment, wanted = api.get("Deployment", name), replicas or fewest
    if deployment is None or deployment["spec"]["replicas"] in (0, wanted):
        return False
    api.merge("Deployment", name, {"spec": {"replicas": wanted}}, fieldManager="autoscaler")
    return True


def collect_garbage(api: Api, kinds: Iterable[str] = GROUPS) -> list[str]:
    """Act as the garbage collector: delete objects whose owners no longer exist. Return the deleted objects."""
    gone: list[str] = []
    while True:
        everything = [item for kind in kinds for item in api.list(kind)]
        uids = {item["metadata"]["uid"] for item in everything}
        orphans = [
            item
            for item in everything
            if (owners := item["metadata"].get("ownerReferences")) and not any(o["uid"] in uids for o in owners)
        ]
        if not orphans:
            return gone
        for item in orphans:
            if item["metadata"].get("finalizers"):
                # as the controller does that protects volumes in use
                api.merge(item["kind"], item["metadata"]["name"], {"metadata": {"finalizers": None}})
            api.delete(item["kind"], item["metadata"]["name"])
            gone.append(f"{item['kind']}/{item['metadata']['name']}")


def _set_container(api: Api, pod: str, container: str, phase: str, state: Raw) -> dict[str, Any]:
    """Act as the kubelet: report the state of a pod's only container."""
    report = _container_status(container, state)
    status = {"phase": phase, "containerStatuses": [report]}
    return api.merge("Pod", pod, {"status": status}, "/status")


def _container_status(container: str, state: Raw) -> dict[str, Any]:
    return {
        "name": container, "image": "none", "imageID": "", "ready": "running" in state, "restartCount": 0,
        "state": {"running": None, "terminated": None, **state},
    }  # fmt: skip
