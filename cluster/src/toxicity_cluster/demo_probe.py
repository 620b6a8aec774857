"""HTTP requests from a short-lived pod inside the cluster."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toxicity_cluster.demo_kubectl import Kubectl, Manifest, pull_secret_references, wait_until
from toxicity_cluster.errors import ClusterError

PROBE_LABEL = "toxicity-probe"

POST_SCRIPT = """
import os, sys, urllib.request
request = urllib.request.Request(
    os.environ["URL"], os.environ["BODY"].encode(), {"content-type": "application/json"}
)
sys.stdout.write(urllib.request.urlopen(request, timeout=60).read().decode())
"""

GET_SCRIPT = """
import os, sys, urllib.request
sys.stdout.write(urllib.request.urlopen(os.environ["URL"], timeout=60).read().decode())
"""


class ProbeFailed(ClusterError):
    """The pod failed; the message is its log."""


@dataclass(frozen=True)
class Classification:
    """The result for one text."""

    text: str
    score: float
    toxic: bool


def classify(
    kubectl: Kubectl,
    namespace: str,
    image: str,
    url: str,
    texts: Sequence[str],
    pull_secrets: Sequence[str] = (),
) -> list[Classification]:
    """Classify `texts` with one request from a pod of `image` in `namespace`."""
    body = json.dumps({"texts": list(texts)}, ensure_ascii=False)
    environment = {"URL": f"{url.rstrip('/')}/v1/classify", "BODY": body}
    answer = json.loads(run_python(kubectl, namespace, image, POST_SCRIPT, environment, pull_secrets))
    results = answer["results"]
    if len(results) != len(texts):
        raise ProbeFailed(f"{len(texts)} texts were sent, but {len(results)} results returned: {answer}")
    pairs = zip(texts, results, strict=True)
    return [Classification(text, float(result["score"]), bool(result["toxic"])) for text, result in pairs]


def fetch(kubectl: Kubectl, namespace: str, image: str, url: str) -> str:
    """The body of GET `url`, requested from a pod of `image` in `namespace`."""
    return run_python(kubectl, namespace, image, GET_SCRIPT, {"URL": url})


def run_python(
    kubectl: Kubectl,
    namespace: str,
    image: str,
    script: str,
    environment: dict[str, str],
    pull_secrets: Sequence[str] = (),
) -> str:
    """Run `script` in a pod of `image` and return the log. Raises ProbeFailed if it fails."""
    pod = build_probe_pod(f"{PROBE_LABEL}-{secrets.token_hex(4)}", image, script, environment, pull_secrets)
    return run_pod(kubectl, namespace, pod)


def run_pod(kubectl: Kubectl, namespace: str, pod: Manifest) -> str:
    """Run a pod of one container to its end, remove it and return the log. Raises ProbeFailed if it fails."""
    name = pod["metadata"]["name"]
    kubectl.apply(pod, namespace)

    def ended() -> str | None:
        found = kubectl.get("pod", name, namespace)
        phase = found["status"].get("phase") if found else None
        return phase if phase in ("Succeeded", "Failed") else None

    try:
        phase = wait_until(f"probe pod {name} ended", ended, deadline_seconds=180, poll_seconds=1)
        log = kubectl.run("logs", name, "-n", namespace)
    finally:
        kubectl.delete("pod", name, namespace)
    if phase == "Failed":
        raise ProbeFailed(log)
    return log


def build_probe_pod(
    name: str, image: str, script: str, environment: dict[str, str], pull_secrets: Sequence[str] = ()
) -> Manifest:
    """A pod at the `restricted` Pod Security level that runs one Python script once."""
    security: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", script],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": PROBE_LABEL}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "imagePullSecrets": pull_secret_references(pull_secrets),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
