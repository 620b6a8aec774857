"""Constant traffic on a model's Service from a pod beside it, and what became of every request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from toxicity_cluster.demo_kubectl import Kubectl, wait_until
from toxicity_cluster.demo_probe import build_probe_pod

POD = "traffic"
STARTS_SECONDS = 120

SCRIPT = """
import json, os, time, urllib.request

body = json.dumps({"text": "спасибо за помощь, всё получилось"}).encode()
sent = failed = 0
reasons = []
while True:
    sent += 1
    try:
        request = urllib.request.Request(os.environ["URL"], body, {"content-type": "application/json"})
        score = json.load(urllib.request.urlopen(request, timeout=60))["results"][0]["score"]
        assert 0 <= score <= 1, score
    except Exception as error:
        failed += 1
        reasons.append(f"{time.strftime('%X')} {error!r}")
    print(json.dumps({"sent": sent, "failed": failed, "reasons": reasons[:5]}, ensure_ascii=False), flush=True)
    time.sleep(0.5)
"""


@dataclass(frozen=True)
class Answered:
    """Requests that were sent one after another so far, how many got no score, and the first reasons."""

    sent: int
    failed: int
    reasons: list[str]


@dataclass(frozen=True)
class Traffic:
    """Traffic that runs until its block ends."""

    kubectl: Kubectl
    namespace: str

    def answered(self) -> Answered:
        """The count after the request that was answered last."""
        lines = self.kubectl.log_end(f"pod/{POD}", self.namespace, 1)
        return Answered(**json.loads(lines[-1])) if lines else Answered(0, 0, [])

    def since(self, before: Answered) -> Answered:
        """What came after `before`, once at least one more request was answered."""
        now = wait_until(
            "the traffic goes on",
            lambda: found if (found := self.answered()).sent > before.sent else None,
            STARTS_SECONDS,
        )
        return Answered(now.sent - before.sent, now.failed - before.failed, now.reasons)


@contextmanager
def constant_traffic(
    kubectl: Kubectl, namespace: str, image: str, url: str, node: str | None = None
) -> Iterator[Traffic]:
    """One request after another, two a second at most, while the block runs; from this `node`, if one is named."""
    pod = build_probe_pod(POD, image, SCRIPT, {"URL": f"{url}/v1/classify"})
    if node is not None:
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    kubectl.apply(pod, namespace)
    traffic = Traffic(kubectl, namespace)
    try:
        traffic.since(Answered(0, 0, []))
        yield traffic
    finally:
        kubectl.delete("pod", POD, namespace)
