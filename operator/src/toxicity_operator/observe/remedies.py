"""Maps messages of Kubernetes to what the user should do, naming the fields of the ToxicityModel. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from toxicity_api.types import Raw
from toxicity_operator import names
from toxicity_operator.manifests.object_store import AUTHORITY, CREDENTIALS
from toxicity_operator.manifests.sources import BUSYBOX
from toxicity_operator.observe.objects import label

MESSAGE_LIMIT = 800

SECTIONS = {
    names.TRAIN: "training",
    names.QUANTIZE: "quantization",
    names.EVALUATE: "serving",
    names.SERVE: "serving",
    names.LOADTEST: "loadTest",
}
"""The section of the spec with the pod fields of a component."""

IMAGES = {
    names.TRAIN: "images.training",
    names.QUANTIZE: "images.quantization or images.quantizationAutoawq",
    names.EVALUATE: "images.serving",
    names.SERVE: "images.serving",
    names.LOADTEST: "images.loadtest",
}
SECRETS = dict.fromkeys((names.SERVE, names.LOADTEST), "serving.apiTokenSecretName")
CONFIG_MAPS = {names.LOADTEST: "loadTest.trace", names.EVALUATE: "configMap of evaluation.testSets"}
"""The field with the ConfigMap that a component's pods mount; of other components it is the data set."""

SOURCES = {"dataset": "dataset", "base-model": "baseModel"}
"""The section of the spec that an init container downloads or copies, by the container's name."""


@dataclass(frozen=True)
class Fields:
    """The fields of the spec from which a pod, or one of its containers, is made."""

    section: str
    image: str
    secret: str
    config_map: str = "dataset.configMap"


def fields_of(item: Raw, container: Raw | None = None) -> Fields:
    """The fields for the pod, Job or Deployment `item`, or for one of its containers."""
    component = label(item, names.COMPONENT_LABEL)
    name = (container or {}).get("name", "")
    source = _source_of(name)
    image = IMAGES[names.TRAIN] if source or name == "tools" else IMAGES.get(component, "images")
    if source and (container or {}).get("command", [""])[0] == BUSYBOX:
        image = f"{source}.image.reference"
    secret = f"the secretName in {source}" if source else SECRETS.get(component, "images.pullSecrets")
    return Fields(
        SECTIONS.get(component, "the stage"), image, secret, CONFIG_MAPS.get(component, "dataset.configMap")
    )


def _source_of(container: str) -> str | None:
    """The section of the spec that an init container downloads or copies."""
    if container.startswith(names.HELD_OUT_PREFIX):
        return names.held_out_field(container.removeprefix(names.HELD_OUT_PREFIX))
    return SOURCES.get(container)


ONE_NODE = (
    "the pods of a ReadWriteOnce volume share a node: free resources on the node of the volume, create the resource"
    " again with a ReadWriteMany volume or storage.objectStore, or correct {section}.pod.affinity"
)

RULES: tuple[tuple[str, str], ...] = (
    # admission: quotas, LimitRanges, policies
    (r"exceeded quota: (?P<name>[^,\s]+)", "lower {section}.resources, or raise the ResourceQuota {name}"),
    (r"failed quota: [^:]+: must specify (?P<name>[\w.,/-]+)", "set {name} in {section}.resources"),
    (
        r"(?:maximum|minimum) \S+ usage per (?:Container|Pod)|max limit to request ratio",
        "change {section}.resources to what the namespace's LimitRange allows",
    ),
    (r"violates PodSecurity", "allow what the message names in the namespace, or stop what adds it to pods"),
    (r"admission webhook|failed calling webhook", "check the webhook that the message names"),
    (r'serviceaccount "(?P<name>[^"]+)" not found', "create the ServiceAccount {name}, or correct"
     " {section}.pod.serviceAccountName"),
    (r"no PriorityClass with name (?P<name>\S+) was found", "create the PriorityClass {name}, or correct"
     " {section}.pod.priorityClassName"),
    (r'RuntimeClass "(?P<name>[^"]+)" not found', "create the RuntimeClass {name}, or correct"
     " {section}.pod.runtimeClassName"),
    # the scheduler; a pod's volume before its resources, since another node does not help
    (r"didn't match pod affinity rules", ONE_NODE),
    (rf"(?:Insufficient |OutOf){re.escape(names.GPU_RESOURCE)}", "free a GPU, or add a node with one"),
    (r"(?:Insufficient |OutOf)(?P<name>[\w-]+\.[\w.-]*/[\w.-]*\w)", "free a {name}, or add a node with one"),
    (r"Insufficient (?P<name>[\w./-]+)", "lower {section}.resources.requests.{name}, or add a node"),
    (r"untolerated taint \{node\.kubernetes\.io/", "the nodes are not ready or are drained; see kubectl get nodes"),
    (r"untolerated taint", "add a toleration to {section}.tolerations, or remove the taint"),
    (r"pod anti-affinity rules|pod topology spread constraints", "correct {section}.pod, or add a node"),
    (r"node affinity/selector", "correct {section}.nodeSelector or pod.affinity, or label a node to match it"),
    (r"unbound immediate PersistentVolumeClaims", "see kubectl get pvc; correct storage.storageClassName"),
    (
        r'persistentvolumeclaim "(?P<name>[^"]+)" (?:not found|is being deleted)',
        "create the claim {name}, or correct the claimName in storage, dataset or baseModel",
    ),
    (r"volume node affinity conflict", "the volume exists on one node or in one zone only; free resources there"),
    (r"Too many pods|OutOfpods", "add a node"),
    (r"SchedulingGated", "remove the pod's schedulingGates, or wait for the controller that does (such as Kueue)"),
    # volumes, ConfigMaps and Secrets
    (r'configmap "(?P<name>[^"]+)" not found', "create the ConfigMap {name}, or correct"
     " {config_map}.name, {section}.pod or pods.caBundle of the operator's chart"),
    (r"references non-existent config key", "correct {config_map}.key"),
    (
        rf'volume "{CREDENTIALS}".*secret "(?P<name>[^"]+)" not found',
        "create the Secret {name}, or correct storage.objectStore.secretName",
    ),
    (
        rf'volume "{AUTHORITY}".*secret "(?P<name>[^"]+)" not found',
        "create the Secret {name}, or correct storage.objectStore.caSecretName",
    ),
    (r'secret "(?P<name>[^"]+)" not found', "create the Secret {name}, or correct {secret}"),
    (r"couldn't find key (?P<name>\S+) in Secret", "add the key {name} to the Secret, or correct {secret}"),
    (r"Multi-Attach|unmounted volumes=\[artifacts", ONE_NODE),
    (r'storageclass\S* "(?P<name>[^"]+)" not found', "correct storage.storageClassName"),
    (r"no storage class is set|no persistent volumes available", "set storage.storageClassName"),
    (r"ProvisioningFailed", "correct storage.storageClassName, storage.accessModes or storage.size"),
    (
        r'volume "[^"]+" : path "(?P<name>/[^"]+)" does not exist',
        "create the folder {name} on the node, or keep the pod off this node with {section}.nodeSelector",
    ),
    (r"FailedMount|FailedAttachVolume|FailedMapVolume", "check the volume that the message names"),
    (r"FailedCreatePodSandBox|NetworkNotReady", "check the network plugin and the container runtime of the node"),
    # images
    (r"InvalidImageName", "correct {image}"),
    (r"ErrImageNeverPull", "load the image onto the node, or correct {image}"),
    (r"ImageInspectError|ImageVolumeMountFailed", "remove the image from the node so that it is pulled again"),
    (r"SignatureValidationFailed", "sign the image, or correct {image}"),
    (
        r"ErrImagePull|ImagePullBackOff|RegistryUnavailable",
        "correct {image}, or add a Secret for its registry to images.pullSecrets",
    ),
    # containers
    (r"will run as root|non-numeric user", "the image must run as a user other than root; correct {image}"),
    (r"CreateContainerConfigError", "correct {secret}, or the image in {image}"),
    (r"no such file or directory|executable file not found|exec format error", "correct {image}"),
    (r"StartError|RunContainerError|ContainerCannotRun|CreateContainerError", "correct {image}, or check the node"),
    (r"P(?:ost|re)StartHookError", "the container's hook failed; correct it where the container is defined"),
    (r"SandboxError|KillContainerError", "check the container runtime of the node"),
    # what stops a pod
    (r'EmptyDir volume "artifacts"', "raise storage.scratch.size"),
    (r"EmptyDir volume|ephemeral-storage|ephemeral local storage", "raise {section}.resources.limits.ephemeral-storage"
     " and the request, or free disk space on the node"),
    (r"low on resource: memory", "raise {section}.resources.requests.memory"),
    (r"low on resource: (?P<name>\w+)", "free {name} on the node"),
    (r"OutOf(?P<name>[\w./-]+)", "lower {section}.resources.requests.{name}, or free resources on the node"),
    (r"UnexpectedAdmissionError", "check the device plugin of the node"),
    (r"NodeAffinity", "correct {section}.nodeSelector, or label the node again"),
    (r"TopologyAffinityError", "lower {section}.resources, or change the node's topology manager policy"),
    (r"[Nn]ode ?[Ss]hutdown|\(Shutdown|\(Terminated", "no action needed, another pod starts on another node"),
    (r"Preempti(?:ng|on)", "another pod starts when resources are free; free resources, or use a priority class"),
    (r"EvictionByEvictionAPI", "no action needed, another pod starts"),
    (r"NodeLost|DeletionByTaintManager|DeletionByPodGC", "another pod starts automatically; see kubectl get nodes"),
)  # fmt: skip
"""Patterns of messages, the most specific first, and what to do about them."""


def remedy(message: str, fields: Fields) -> str:
    """What to do about the message; empty if no rule matches."""
    for pattern, text in RULES:
        found = re.search(pattern, message)
        if found is not None:
            name = str(found.groupdict().get("name", "")).rstrip(".")
            return text.format(name=name, **asdict(fields))
    return ""


def with_remedy(message: str, fields: Fields, otherwise: str = "") -> str:
    """The message with what to do appended. The message is cut so that both fit into MESSAGE_LIMIT characters."""
    advice = remedy(message, fields) or otherwise
    tail = f"; {advice}" if advice else ""
    return message[: MESSAGE_LIMIT - len(tail)] + tail
