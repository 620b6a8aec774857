"""A data set that training cannot use: the condition says why, and nothing is tried again."""

from __future__ import annotations

import pytest

from support.e2e.scenario import condition, config_map, get_model, jobs, patch_spec, pods_of, small_model
from toxicity_cluster.demo_install import Installation
from toxicity_cluster.demo_kubectl import Manifest, wait_until

pytestmark = pytest.mark.e2e

NAME = "bad"
VERDICT_SECONDS = 240

WITHOUT_COLUMNS = "text,label\n" + "".join(f"обычная строка номер {i},{i % 2}\n" for i in range(40))
LABEL_TWO = "comment,toxic\n" + "".join(f"обычная строка номер {i},{i % 3}\n" for i in range(40))


@pytest.mark.parametrize(
    ("content", "reason", "named"),
    [
        pytest.param(WITHOUT_COLUMNS, "MissingColumn", "'comment'", id="without the named columns"),
        pytest.param(LABEL_TWO, "InvalidLabel", "'2'", id="with a label that is not 0 or 1"),
    ],
)
def test_bad_data_fails_training_once(
    cluster: Installation, namespace: str, content: str, reason: str, named: str
) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(config_map("comments", content), namespace)
    kubectl.apply(small_model(NAME, "comments", cluster.images), namespace)

    def verdict() -> Manifest | None:
        model = get_model(cluster, NAME, namespace)
        return model if condition(model, "Trained").get("status") == "False" else None

    model = wait_until("Trained is False", verdict, VERDICT_SECONDS)
    trained = condition(model, "Trained")
    assert trained["reason"] == reason
    assert named in trained["message"]
    assert condition(model, "Ready")["status"] == "False"
    assert_tried_once(cluster, namespace)

    # the operator looks again, because the spec has a new generation, and finds nothing to do
    patch_spec(kubectl, NAME, namespace, {"loadTest": {"runId": "again"}})
    model = wait_until("Trained is False for the new generation", verdict, deadline_seconds=60)
    assert condition(model, "Trained")["reason"] == reason
    assert_tried_once(cluster, namespace)


def assert_tried_once(cluster: Installation, namespace: str) -> None:
    """One training Job with one pod, failed for good, and no other stage."""
    (job,) = cluster.kubectl.list("jobs", namespace)
    assert [job] == list(jobs(cluster.kubectl, namespace, "train"))
    assert "Failed" in {c["type"] for c in job["status"]["conditions"] if c["status"] == "True"}
    assert len(pods_of(cluster.kubectl, job)) == 1
