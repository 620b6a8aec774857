"""The patch that overwrites a manual edit which makes an apply invalid."""

from __future__ import annotations

import copy
from typing import Any

from toxicity_operator.observe.drift import overwriting

BODY: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "m-serve", "namespace": "default", "labels": {"a": "b"}},
    "spec": {"strategy": {"type": "Recreate"}, "template": {"spec": {"containers": [{"name": "serve"}]}}},
}


def live() -> dict[str, Any]:
    found = copy.deepcopy(BODY)
    found["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": []}
    found["spec"]["replicas"] = 3
    found["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    found["spec"]["template"]["spec"]["containers"].append({"name": "serve-2"})
    found["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    found["status"] = {"replicas": 3}
    return found


def test_lists_are_ours_alone_and_what_makes_no_sense_beside_ours_goes() -> None:
    spec = overwriting(BODY, live())["spec"]
    assert spec["template"]["spec"] == {"containers": [{"name": "serve"}]}
    assert spec["strategy"] == {"type": "Recreate", "rollingUpdate": None}


def test_what_others_own_is_not_mentioned() -> None:
    patch = overwriting(BODY, live())
    assert "replicas" not in patch["spec"]
    assert "status" not in patch
    # the uid: an object made meanwhile in the place of this one is not meant
    assert patch["metadata"] == {"name": "m-serve", "namespace": "default", "uid": "u"}


def test_body_is_left_as_it_is() -> None:
    before = copy.deepcopy(BODY)
    overwriting(BODY, live())
    assert before == BODY
