"""Every problem that the kubelet, the scheduler or a controller reports has a message with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.observe.jobs import JobState
from toxicity_operator.observe.objects import ReadContext
from toxicity_operator.observe.pods import OUT_OF_SERVICE, pod_delay, pod_trouble
from toxicity_operator.observe.state import Observed, from_objects

PLACED_AT, SOON, LATER = "2030-01-01T00:00:10Z", "2030-01-01T00:00:12Z", "2030-01-01T00:00:40Z"
PLACED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": PLACED_AT}
NO_SANDBOX = {"type": "PodReadyToStartContainers", "status": "False"}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
COPY = {"name": "base-model", "image": "registry/base:3", "command": ["/tools/busybox", "sh"]}
HELD_OUT = {
    "name": "test-set-forum",
    "image": "training-image:1",
    "command": ["python", "-m", "toxicity_training.download"],
}
DOWNLOAD = {
    "name": "dataset",
    "image": "training-image:1",
    "command": ["python", "-m", "toxicity_training.download"],
}


def a_pod(component: str = "train", *, spec: Raw | None = None, metadata: Raw | None = None, **status: Any) -> Raw:
    about = {
        "name": "pod-x",
        "uid": "pod-uid",
        "labels": names.labels("m", component),
        "creationTimestamp": PLACED_AT,
    }
    about["ownerReferences"] = [{"uid": "job-uid"}]
    containers = [{"name": component, "image": "image:1"}]
    return {
        "kind": "Pod",
        "metadata": about | (metadata or {}),
        "spec": {"containers": containers, "nodeName": "node-7"} | (spec or {}),
        "status": {"phase": "Pending"} | status,
    }


def waiting(name: str, reason: str, message: str = "words") -> Raw:
    return {"name": name, "ready": False, "state": {"waiting": {"reason": reason, "message": message}}}


def ended(name: str, code: int, reason: str = "Error", message: str = "") -> Raw:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": LATER}}
    return {"name": name, "ready": False, "state": state}


def running(name: str, **more: Any) -> Raw:
    return {"name": name, "ready": True, "state": {"running": {"startedAt": PLACED_AT}}, **more}


REGISTRY = "or add a Secret for its registry to images.pullSecrets"
DESCRIBE = "see kubectl describe pod pod-x"


@pytest.mark.parametrize(
    ("component", "reason", "message", "remedy"),
    [
        ("train", "ErrImagePull", "manifest unknown", f"correct images.training, {REGISTRY}"),
        ("evaluate", "ImagePullBackOff", "Back-off pulling image", f"correct images.serving, {REGISTRY}"),
        ("loadtest", "RegistryUnavailable", "503", f"correct images.loadtest, {REGISTRY}"),
        ("serve", "InvalidImageName", "couldn't parse image", "correct images.serving"),
        ("train", "ErrImageNeverPull", "not present", "load the image onto the node, or correct images.training"),
        ("train", "ImageInspectError", "damaged", "remove the image from the node so that it is pulled again"),
        ("train", "SignatureValidationFailed", "x", "sign the image, or correct images.training"),
        (
            "serve", "CreateContainerConfigError", 'secret "api-token" not found',
            "create the Secret api-token, or correct serving.apiTokenSecretName",
        ),
        (
            "loadtest", "CreateContainerConfigError", "couldn't find key token in Secret ns/api-token",
            "add the key token to the Secret, or correct serving.apiTokenSecretName",
        ),
        (
            "train", "CreateContainerConfigError", "container has runAsNonRoot and image will run as root",
            "the image must run as a user other than root; correct images.training",
        ),
        ("train", "CreateContainerError", "device busy", "correct images.training, or check the node"),
        ("train", "RunContainerError", "exec: python: executable file not found", "correct images.training"),
        ("train", "CreatePodSandboxError", "x", "check the container runtime of the node"),
        ("train", "PostStartHookError", "x", "the container's hook failed; correct it where the container is defined"),
        ("train", "SomethingNew", "x", DESCRIBE),
    ],
)  # fmt: skip
def test_container_that_cannot_start_names_the_field(
    component: str, reason: str, message: str, remedy: str
) -> None:
    pod = a_pod(component, containerStatuses=[waiting(component, reason, message)])
    assert pod_trouble(pod) == f"container {component} of pod pod-x waits: {reason} {message}; {remedy}"


@pytest.mark.parametrize(
    ("spec", "reason", "message", "remedy"),
    [
        (COPY, "ErrImagePull", "denied", f"correct baseModel.image.reference, {REGISTRY}"),
        (DOWNLOAD, "ErrImagePull", "denied", f"correct images.training, {REGISTRY}"),
        (
            DOWNLOAD, "CreateContainerConfigError", 'secret "hub" not found',
            "create the Secret hub, or correct the secretName in dataset",
        ),
    ],
)  # fmt: skip
def test_init_container_names_the_field_of_its_source(spec: Raw, reason: str, message: str, remedy: str) -> None:
    pod = a_pod(spec={"initContainers": [spec]}, initContainerStatuses=[waiting(spec["name"], reason, message)])
    assert pod_trouble(pod).endswith(f"; {remedy}")
    assert f"init container {spec['name']} of pod pod-x waits" in pod_trouble(pod)


@pytest.mark.parametrize(
    ("spec", "reason", "message", "remedy"),
    [
        (HELD_OUT, "ErrImagePull", "denied", f"correct images.training, {REGISTRY}"),
        (
            HELD_OUT | {"name": "tools", "command": ["cp"]}, "ErrImagePull", "denied",
            f"correct images.training, {REGISTRY}",
        ),
        (
            HELD_OUT | {"command": ["/tools/busybox", "sh"]}, "ErrImagePull", "denied",
            f"correct evaluation.testSets[forum].image.reference, {REGISTRY}",
        ),
        (
            HELD_OUT, "CreateContainerConfigError", 'secret "hub" not found',
            "create the Secret hub, or correct the secretName in evaluation.testSets[forum]",
        ),
    ],
)  # fmt: skip
def test_init_container_of_a_test_set_names_its_field(spec: Raw, reason: str, message: str, remedy: str) -> None:
    pod = a_pod(
        "evaluate", spec={"initContainers": [spec]}, initContainerStatuses=[waiting(spec["name"], reason, message)]
    )
    assert pod_trouble(pod).endswith(f"; {remedy}")


def test_remedy_is_not_cut_off_by_long_words() -> None:
    pod = a_pod(containerStatuses=[waiting("train", "ErrImagePull", "x" * 5000)])
    assert pod_trouble(pod).endswith(REGISTRY) and len(pod_trouble(pod)) <= 800


LIMITED = {"resources": {"limits": {"memory": "1536Mi"}}}


@pytest.mark.parametrize(
    ("component", "kind", "container", "words"),
    [
        ("train", "init", COPY | LIMITED, "its limit is 1536Mi; raise training.resources.limits.memory"),
        ("train", "init", {"name": "tools"} | LIMITED, "its limit is 1536Mi; raise training.resources.limits.memory"),
        (
            "evaluate", "main", {"name": "evaluate"} | LIMITED,
            "its limit is 1536Mi; raise serving.resources.limits.memory",
        ),
        (
            "quantize", "main", {"name": "quantize"},
            "it has no limit, so the node ran out of memory; raise quantization.resources.requests.memory, or use a"
            " larger node",
        ),
        ("train", "main", {"name": "istio-proxy"} | LIMITED, "did not add this container, so raise its memory limit"),
    ],
)  # fmt: skip
def test_lack_of_memory_names_the_field_to_raise(component: str, kind: str, container: Raw, words: str) -> None:
    statuses = {"initContainerStatuses" if kind == "init" else "containerStatuses": [
        ended(container["name"], 137, "OOMKilled")
    ]}  # fmt: skip
    specs = {"initContainers": [container]} if kind == "init" else {"containers": [container]}
    told = pod_trouble(a_pod(component, spec=specs, **statuses))
    assert container["name"] in told and "OOMKilled" in told and words in told


@pytest.mark.parametrize(
    ("reason", "code", "message", "words"),
    [
        ("StartError", 128, "exec: no such file or directory", "correct images.training"),
        ("ContainerCannotRun", 127, "oci runtime error", "correct images.training, or check the node"),
        (
            "ContainerStatusUnknown",
            137,
            "",
            "was lost with its node (ContainerStatusUnknown); Kubernetes starts another pod",
        ),
        ("Error", 3, "ValueError: x", "terminated (Error) with exit code 3: ValueError: x"),
        ("DeadlineExceeded", 143, "", "terminated (DeadlineExceeded) with exit code 143"),
    ],
)
def test_container_that_ended_says_how(reason: str, code: int, message: str, words: str) -> None:
    assert words in pod_trouble(a_pod(containerStatuses=[ended("train", code, reason, message)]))


GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
TAINT = "0/3 nodes are available: 3 node(s) had untolerated taint {gpu: yes}."
NOT_READY = "0/3 nodes are available: 3 node(s) had untolerated taint {node.kubernetes.io/unreachable: }."
SELECTOR = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("Unschedulable", "0/3 nodes: 3 Insufficient memory.", "lower serving.resources.requests.memory,"),
        ("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.", "lower serving.resources.requests.cpu, or"),
        ("Unschedulable", GPU, "free a GPU, or add a node with one"),
        ("Unschedulable", TAINT, "add a toleration to serving.tolerations, or remove the taint"),
        ("Unschedulable", NOT_READY, "the nodes are not ready or are drained; see kubectl get nodes"),
        ("Unschedulable", SELECTOR, "correct serving.nodeSelector or pod.affinity, or label a node to match it"),
        ("Unschedulable", UNBOUND, "see kubectl get pvc; correct storage.storageClassName"),
        (
            "Unschedulable", 'persistentvolumeclaim "data" not found',
            "create the claim data, or correct the claimName in storage, dataset or baseModel",
        ),
        ("Unschedulable", "1 node(s) had volume node affinity conflict", "free resources there"),
        ("Unschedulable", "0/1 nodes are available: 1 Too many pods.", "add a node"),
        (
            "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates",
            "remove the pod's schedulingGates, or wait",
        ),
        ("SchedulerError", "binding volumes: timed out", "(SchedulerError)"),
    ],
)  # fmt: skip
def test_pod_that_is_not_placed_says_what_to_do(reason: str, message: str, remedy: str) -> None:
    told = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    words = pod_trouble(a_pod("evaluate", conditions=[told]))
    assert words.startswith(f"pod pod-x cannot be scheduled: {message}") and remedy in words


@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("Evicted", "The node was low on resource: memory.", "raise training.resources.requests.memory"),
        ("Evicted", "The node was low on resource: pids.", "free pids on the node"),
        (
            "Evicted",
            "Pod ephemeral local storage usage exceeds",
            "raise training.resources.limits.ephemeral-storage",
        ),
        ("Evicted", 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi".', "limits.ephemeral-storage"),
        (
            "OutOfcpu",
            "Node didn't have enough resource: cpu",
            "lower training.resources.requests.cpu, or free resources",
        ),
        (
            "OutOfmemory",
            "Node didn't have enough resource",
            "lower training.resources.requests.memory, or free resources",
        ),
        ("OutOfpods", "Node didn't have enough resource: pods", "add a node"),
        ("OutOfnvidia.com/gpu", "Node didn't have enough resource", "free a GPU, or add a node with one"),
        ("UnexpectedAdmissionError", "no healthy devices present", "check the device plugin of the node"),
        (
            "NodeAffinity",
            "Predicate NodeAffinity failed",
            "correct training.nodeSelector, or label the node again",
        ),
        ("TopologyAffinityError", "x", "lower training.resources, or change the node's topology manager policy"),
        ("NodeShutdown", "Pod was rejected", "no action needed, another pod starts on another node"),
        (
            "Terminated",
            "Pod was terminated in response to imminent node shutdown.",
            "another pod starts on another",
        ),
        (
            "Preempting",
            "Preempted in order to admit critical pod",
            "another pod starts when resources are free",
        ),
        ("NodeLost", "Node node-7 was lost", "another pod starts automatically; see kubectl get nodes"),
    ],
)
def test_pod_that_the_cluster_stopped_says_what_to_do(reason: str, message: str, remedy: str) -> None:
    words = pod_trouble(a_pod(phase="Failed", reason=reason, message=message))
    assert words.startswith(f"pod pod-x was stopped by the cluster ({reason}): {message}") and remedy in words


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("PreemptionByScheduler", "another pod starts when resources are free"),
        ("DeletionByTaintManager", "another pod starts automatically; see kubectl get nodes"),
        ("DeletionByPodGC", "another pod starts automatically; see kubectl get nodes"),
        ("EvictionByEvictionAPI", "no action needed, another pod starts"),
    ],
)
def test_disrupted_pod_says_what_to_do(reason: str, remedy: str) -> None:
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "words"}
    words = pod_trouble(a_pod(phase="Running", conditions=[disrupted], containerStatuses=[running("train")]))
    assert remedy in words


DELETED = {"deletionTimestamp": PLACED_AT}
EVICTED_BY_TAINT = {
    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
    "message": "Taint manager: deleting due to NoExecute taint",
}  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "status", "words"),
    [
        (DELETED, {"phase": "Running"}, "node node-7 does not confirm its termination"),
        (
            DELETED,
            {"phase": "Running", "conditions": [EVICTED_BY_TAINT]},
            f"run kubectl taint node node-7 {OUT_OF_SERVICE},",
        ),
        (DELETED | {"finalizers": ["batch.kubernetes.io/job-tracking"]}, {"phase": "Running"}, "node-7 does not"),
        (
            DELETED | {"finalizers": ["example.com/keep"]},
            {"phase": "Failed"},
            "waits for finalizer example.com/keep",
        ),
        ({}, {"phase": "Unknown"}, "has an unknown state, since node node-7 does not respond"),
    ],
)
def test_pod_of_a_lost_node_says_so_once_it_should_be_gone(metadata: Raw, status: Raw, words: str) -> None:
    pod = a_pod(metadata=metadata, **status)
    assert words in pod_trouble(pod, ReadContext(LATER))
    assert words not in pod_trouble(pod, ReadContext(SOON)) or metadata == {}


PROBES = {"containers": [{"name": "serve", "startupProbe": {}, "readinessProbe": {}}]}
GATE = {"readinessGates": [{"conditionType": "example.com/balancer"}]}
CONTAINERS_READY = {"type": "ContainersReady", "status": "True"}


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        pytest.param(a_pod("serve"), "no scheduler has scheduled pod pod-x yet; check that", id="scheduler"),
        pytest.param(a_pod("serve", conditions=[PLACED]), "node node-7 has not started pod pod-x", id="kubelet"),
        pytest.param(
            a_pod(conditions=[PLACED], initContainerStatuses=[running("base-model", ready=False)]),
            "init container base-model of pod pod-x is still running; see kubectl logs pod-x -c base-model",
            id="init container",
        ),
        pytest.param(
            a_pod("serve", spec=PROBES, containerStatuses=[running("serve", started=False) | {"ready": False}]),
            "container serve of pod pod-x has not passed its startup probe yet; see kubectl logs pod-x -c serve",
            id="startup probe",
        ),
        pytest.param(
            a_pod("serve", spec=PROBES, containerStatuses=[running("serve", started=True) | {"ready": False}]),
            "has not passed its readiness probe yet",
            id="readiness probe",
        ),
    ],
)  # fmt: skip
def test_slow_start_is_told_only_after_a_while(pod: Raw, words: str) -> None:
    assert words in pod_delay(pod, ReadContext(LATER))
    assert pod_delay(pod, ReadContext(SOON)) == "" and pod_delay(pod) == ""


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        pytest.param(
            a_pod("serve", phase="Running", spec=GATE, conditions=[PLACED, CONTAINERS_READY],
                  containerStatuses=[running("serve")]),
            "waits for its readiness gate example.com/balancer", id="readiness gate",
        ),
        pytest.param(
            a_pod("serve", phase="Running", containerStatuses=[running("serve")], conditions=[
                {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "too much"}
            ]),
            "the resize of pod pod-x is pending (Infeasible: too much); undo it", id="resize",
        ),
    ],
)  # fmt: skip
def test_running_pod_says_what_it_waits_for(pod: Raw, words: str) -> None:
    assert words in pod_delay(pod)


def a_job(status: Raw | None = None, *, labels: Raw | None = None, **spec: Any) -> Raw:
    metadata = {
        "name": "m-train-1", "uid": "job-uid", "creationTimestamp": PLACED_AT,
        "labels": {**names.labels("m", "train"), **(labels or {})},
    }  # fmt: skip
    return {"kind": "Job", "metadata": metadata, "spec": spec, "status": status or {}}


def read(*objects: Raw, now: str = LATER, events: Raw | None = None) -> Observed:
    return from_objects(objects, context=ReadContext(now, events or {}))


def read_job(*objects: Raw, now: str = LATER, events: Raw | None = None) -> JobState:
    return read(*objects, now=now, events=events).jobs[0]


def test_suspended_job_says_by_whom() -> None:
    job = read_job(a_job({"conditions": [{"type": "Suspended", "status": "True"}]}, suspend=True))
    assert (job.outcome, job.reason) == ("Running", "Suspended")
    assert "kubectl patch job m-train-1" in job.message
    job = read_job(a_job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"}))
    assert job.reason == "Suspended" and "by Kueue until queue team-a admits it" in job.message


def true(kind: str, **more: str) -> Raw:
    return {"type": kind, "status": "True", "lastTransitionTime": PLACED_AT, **more}


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (a_job(managedBy="kueue.x-k8s.io/multikueue"), "it is managed by kueue.x-k8s.io/multikueue"),
        (a_job(), "the Job controller has not processed it; check that kube-controller-manager runs"),
        (
            a_job(
                {"startTime": PLACED_AT, "conditions": [true("FailureTarget", message="backoff limit reached")]}
            ),
            "it has failed (backoff limit reached) and waits until its pods have terminated",
        ),
        (a_job({"startTime": PLACED_AT, "conditions": [true("SuccessCriteriaMet")]}), "it has succeeded"),
    ],
)
def test_job_without_pods_says_what_it_waits_for(job: Raw, words: str) -> None:
    assert words in read_job(job).message


REFUSED = a_job({"startTime": PLACED_AT})
QUOTA = "exceeded quota: team, requested: limits.memory=8Gi, used: limits.memory=4Gi, limited: limits.memory=8Gi"


@pytest.mark.parametrize(
    ("told", "remedy"),
    [
        (QUOTA, "lower training.resources, or raise the ResourceQuota team"),
        ("failed quota: team: must specify limits.cpu for: train", "set limits.cpu in training.resources"),
        (
            "maximum memory usage per Container is 1Gi, but limit is 8Gi",
            "change training.resources to what the namespace's LimitRange allows",
        ),
        (
            'violates PodSecurity "restricted:latest"',
            "allow what the message names in the namespace, or stop what adds it to pods",
        ),
        ('admission webhook "w.example.com" denied the request: no', "check the webhook that the message names"),
        (
            'error looking up service account ns/m: serviceaccount "m" not found',
            "create the ServiceAccount m, or correct training.pod.serviceAccountName",
        ),
        ("something new", "see kubectl describe job m-train-1"),
    ],
)
def test_job_whose_pods_are_refused_says_by_what(told: str, remedy: str) -> None:
    assert read(REFUSED).events_uids == {"job-uid"}
    assert read_job(REFUSED, events={"job-uid": told}).message == f"it has no pod yet: {told}; {remedy}"


@pytest.mark.parametrize(
    "job",
    [
        a_job({"startTime": PLACED_AT, "active": 1}),
        a_job({"startTime": PLACED_AT}, suspend=True),
        a_job({"startTime": PLACED_AT, "conditions": [true("SuccessCriteriaMet")]}),
        a_job({"startTime": PLACED_AT, "conditions": [true("Complete")]}),
        a_job(),
    ],
)
def test_events_are_not_asked_about_a_job_that_waits_for_nothing_of_theirs(job: Raw) -> None:
    assert read(job).events_uids == frozenset()


STUCK = a_pod(conditions=[PLACED, NO_SANDBOX], containerStatuses=[{"name": "train", "state": CREATING}])
BUSY = a_job({"startTime": PLACED_AT, "active": 1})


def test_events_are_asked_about_a_pod_only_once_it_is_late() -> None:
    early, late = read(BUSY, STUCK, now=SOON), read(BUSY, STUCK)
    assert (early.events_uids, early.is_settling) == (frozenset(), True)
    assert (late.events_uids, late.is_settling) == ({"pod-uid"}, False)


@pytest.mark.parametrize(
    ("told", "remedy"),
    [
        (
            'MountVolume.SetUp failed for volume "dataset" : configmap "not-there" not found (FailedMount)',
            "create the ConfigMap not-there, or correct dataset.configMap.name, training.pod or pods.caBundle",
        ),
        (
            'MountVolume.SetUp failed for volume "store-credentials" : secret "store-key" not found (FailedMount)',
            "create the Secret store-key, or correct storage.objectStore.secretName",
        ),
        (
            'MountVolume.SetUp failed for volume "store-ca" : secret "store-ca" not found (FailedMount)',
            "create the Secret store-ca, or correct storage.objectStore.caSecretName",
        ),
        ("configmap references non-existent config key: a.csv (FailedMount)", "correct dataset.configMap.key"),
        (
            'MountVolume.NewMounter initialization failed for volume "node-models" : path "/var/cache/models" does not'
            " exist (FailedMount)",
            "create the folder /var/cache/models on the node, or keep the pod off this node",
        ),
        ("mount failed: exit status 32 (FailedMount)", "check the volume that the message names"),
        (
            "Multi-Attach error for volume (FailedAttachVolume)",
            "the pods of a ReadWriteOnce volume share a node: free",
        ),
        (
            "failed to setup network (FailedCreatePodSandBox)",
            "check the network plugin and the container runtime of",
        ),
        ("words (SomethingNew)", "see kubectl describe pod pod-x"),
    ],
)
def test_pod_that_cannot_start_says_what_the_kubelet_said(told: str, remedy: str) -> None:
    words = read_job(BUSY, STUCK, events={"pod-uid": told}).message
    assert words.startswith(f"pod pod-x cannot start: {told}; {remedy}")


CLAIM = {
    "kind": "PersistentVolumeClaim", "metadata": {"name": "m-artifacts", "uid": "claim-uid", "labels": {}},
    "status": {"phase": "Pending"},
}  # fmt: skip
VOLUMES = {"volumes": [{"name": "artifacts", "persistentVolumeClaim": {"claimName": "m-artifacts"}}]}


def test_claim_that_is_not_bound_is_explained_by_its_events() -> None:
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNBOUND}
    pod = a_pod(spec=VOLUMES, conditions=[told])
    assert read(BUSY, pod, CLAIM).events_uids == {"claim-uid"}
    words = 'storageclass.storage.k8s.io "fast" not found (ProvisioningFailed)'
    message = read_job(BUSY, pod, CLAIM, events={"claim-uid": words}).message
    assert f"; claim m-artifacts: {words}" in message and "storage.storageClassName" in message
    bound = CLAIM | {"status": {"phase": "Bound"}}
    assert read(BUSY, pod, bound).events_uids == frozenset()
    assert read(BUSY, a_pod(spec=VOLUMES, conditions=[PLACED]), CLAIM).events_uids == frozenset()


def kept(code: int, *, phase: str = "Running", name: str = "pod-x", **metadata: Any) -> Raw:
    """A pod whose stage container has terminated while a sidecar is running."""
    statuses = [running("mesh"), ended("train", code, "Completed" if code == 0 else "Error")]
    return a_pod(metadata={"name": name, **metadata}, phase=phase, containerStatuses=statuses)


def test_stage_that_ended_well_is_done_although_a_sidecar_keeps_the_pod() -> None:
    job = read_job(BUSY, kept(0))
    assert (job.outcome, job.finished_at, job.held_by_sidecar) == ("Succeeded", LATER, True)


@pytest.mark.parametrize(
    ("pods", "spec", "outcome"),
    [
        pytest.param([kept(1)], {"backoffLimit": 2}, "Running", id="may be tried again"),
        pytest.param([kept(1)], {"backoffLimit": 0}, "Failed", id="no try left"),
        pytest.param([kept(42)], {"backoffLimit": 2}, "Failed", id="bad input"),
        pytest.param([kept(0, deletionTimestamp=PLACED_AT)], {}, "Running", id="being deleted"),
        pytest.param(
            [a_pod(phase="Succeeded", containerStatuses=[ended("train", 0)])], {}, "Running", id="no sidecar"
        ),
        pytest.param([kept(0)], {"completions": 2, "completionMode": "Indexed"}, "Running", id="the other runs"),
        pytest.param(
            [kept(0), kept(0, name="pod-y")],
            {"completions": 2, "completionMode": "Indexed"},
            "Succeeded",
            id="both",
        ),
        pytest.param(
            [kept(0), kept(1, name="pod-y")],
            {"completions": 2, "completionMode": "Indexed"},
            "Failed",
            id="one badly",
        ),
    ],
)
def test_end_of_a_stage_beside_a_sidecar(pods: list[Raw], spec: Raw, outcome: str) -> None:
    job = read_job(a_job({"startTime": PLACED_AT, "active": 1}, **spec), *pods)
    assert (job.outcome, job.held_by_sidecar) == (outcome, outcome != "Running")


def test_stage_that_a_sidecar_keeps_from_a_new_try_says_what_to_do() -> None:
    words = read_job(a_job({"startTime": PLACED_AT, "active": 1}, backoffLimit=2), kept(3)).message
    assert "terminated (Error) with exit code 3" in words
    assert "container mesh keeps the pod running" in words and "kubectl delete pod pod-x" in words


def read_deployment(status: Raw, *pods: Raw, created: str = PLACED_AT, **spec: Any) -> Observed:
    metadata = {
        "name": "m-serve",
        "generation": 1,
        "labels": names.labels("m", "serve"),
        "creationTimestamp": created,
    }
    spec = {"template": {}, **spec}
    return read({"kind": "Deployment", "metadata": metadata, "spec": spec, "status": status}, *pods)


def test_deployment_says_that_it_is_paused_and_that_it_wants_no_pods() -> None:
    state = read_deployment({"observedGeneration": 1}, paused=True, replicas=0).deployment
    assert state is not None and (state.is_paused, state.wanted_replicas) == (True, 0)


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (
            {"conditions": [true("ReplicaFailure", reason="FailedCreate", message=f"forbidden: {QUOTA}")]},
            f"pods are rejected (FailedCreate): forbidden: {QUOTA}; lower serving.resources, or raise the"
            " ResourceQuota team",
        ),
        (
            {"conditions": [
                {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": QUOTA}
            ]},
            f"its ReplicaSet is rejected (ReplicaSetCreateError): {QUOTA}; lower serving.resources, or raise the"
            " ResourceQuota team",
        ),
    ],
)  # fmt: skip
def test_deployment_whose_pods_are_refused_says_what_to_do(status: Raw, trouble: str) -> None:
    state = read_deployment({"observedGeneration": 1} | status).deployment
    assert state is not None and state.trouble == trouble


def test_deployment_that_nobody_looks_at_says_so() -> None:
    state = read_deployment({}).deployment
    assert state is not None and "check that kube-controller-manager runs" in state.waits_for
    fresh = read_deployment({}, created=LATER).deployment
    assert fresh is not None and fresh.waits_for == ""


def test_events_are_asked_about_a_pod_that_is_to_serve() -> None:
    pod = a_pod("serve", conditions=[PLACED, NO_SANDBOX], containerStatuses=[{"name": "serve", "state": CREATING}])
    assert read_deployment({"observedGeneration": 1}, pod).events_uids == {"pod-uid"}
