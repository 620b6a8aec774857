"""Pod settings that the schema and the operator refuse or accept."""

from __future__ import annotations

from typing import Any

VOLUME = {"name": "cache", "emptyDir": {}}

REFUSED: list[tuple[str, Any, str]] = [
    ("serving.pod.labels", {"toxicity.dev/model": "other"}, "pod.labels and pod.annotations must not contain"),
    ("training.pod.labels", {"app.kubernetes.io/name": "x"}, "pod.labels and pod.annotations must not contain"),
    ("training.pod.labels", {"kueue.x-k8s.io/queue-name": "q"}, "use pod.queueName for Kueue"),
    ("serving.pod.annotations", {"toxicity.dev/version": "x"}, "pod.labels and pod.annotations must not contain"),
    ("training.pod.env", [{"name": "STAGE_CONFIG", "value": "{}"}], "pod.env must not contain"),
    ("loadTest.pod.env", [{"name": "API_TOKEN", "value": "x"}], "pod.env must not contain"),
    ("training.pod.volumes", [{"name": "artifacts", "emptyDir": {}}], "pod.volumes must not be named"),
    (
        "serving.pod",
        {"volumeMounts": [{"name": "no", "mountPath": "/mnt/a"}]},
        "must name an entry of pod.volumes",
    ),
    ("serving.pod.serviceAccountName", "other-loadtest", "pod.serviceAccountName must not end in -loadtest"),
    ("loadTest.pod.serviceAccountName", "mine", "loadTest.pod.serviceAccountName cannot be set"),
]
"""Path of a field, its value, and words of the message."""

HIDDEN = [
    "/artifacts",
    "/artifacts/x",
    "/data/dataset",
    "/dev/shm",
    "/opt/venv",
    "/tmp",
    "/etc",
    "/var/run/secrets",
]
BESIDE = ["/mnt/cache", "/tmp/cache", "/etc/ssl/certs", "/models", "/var/lib/x", "/.cache"]


def mounted(path: str) -> dict[str, Any]:
    return {"volumes": [VOLUME], "volumeMounts": [{"name": "cache", "mountPath": path}]}
