"""`helm upgrade` from an earlier version: nothing finished runs again, nothing is rolled out, and what runs goes on.

The operators, their charts and their CRDs are the real ones of both versions. The stages are played by `stand_in.py`
in an image with the earlier version's packages. The later version's default stage images are the same image under
another name, that of a mirror. The chart of the session makes room for both and comes back at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import builders
from support.e2e.earlier import operator_of, sources_of
from support.e2e.loop import running_training_job
from support.e2e.scenario import CHILD_KINDS, condition, get_model, patch_spec, pods_of, wait_for_condition
from support.e2e.stand_in import GO_ON, PATIENT_SEED, QUICK_SEED
from support.e2e.stand_in_image import build_stand_in, mirror
from toxicity_api.conditions import ConditionType
from toxicity_api.crd import build_crd
from toxicity_cluster.commands import run
from toxicity_cluster.demo_install import CHART, OPERATOR_NAMESPACE, RELEASE, Installation, install_chart
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.settings import Settings
from toxicity_operator import names

pytestmark = pytest.mark.e2e

FROM = "1675559826528df502f1fc48cdc6cce7e4301366"
"""The commit of the version that is upgraded."""

SECONDS = 180
DONE, RETAINED, TRAINING = "done", "retained", "training"
MODELS = (DONE, RETAINED, TRAINING)
READY = (ConditionType.READY, "True", "AllStagesDone")
SMALL = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
STAGE_IMAGES = ("training", "quantization", "quantizationAutoawq", "serving", "loadtest")
METRICS_PORT = 8081

Seen = Mapping[str, tuple[str, int]]
"""By `Kind/name`: the UID, and the generation, a Deployment's roll-outs or a pod's restarts (0 for other kinds)."""


@dataclass(frozen=True)
class World:
    """A namespace at one moment: the resources, what the operator has made for them, and the pods of that."""

    models: Mapping[str, Manifest]
    objects: Seen
    pods: Seen
    schema: Any

    def jobs(self) -> set[str]:
        """Names of the Jobs."""
        return {name for kind, _, name in (key.partition("/") for key in self.objects) if kind == "Job"}


@dataclass(frozen=True)
class Upgrade:
    """The namespace, and how it was just before the upgrade and once the new operator had looked at everything."""

    namespace: str
    before: World
    after: World


def a_model(name: str, seed: int, **spec: Any) -> Manifest:
    """A resource whose stages need next to nothing; its own claim takes the place of data and base model."""
    claim = {"persistentVolumeClaim": {"claimName": names.claim_name(name), "path": "unused"}}
    parts: dict[str, Any] = {
        "dataset": claim,
        "baseModel": claim,
        "training": {"gpus": 0, "seed": seed, "resources": SMALL},
        "quantization": {"gpus": 0, "resources": SMALL},
        "serving": {"gpus": 0, "resources": SMALL},
        "loadTest": {"resources": SMALL},
        "qualityGate": {"minF1": 0.5},
    }
    return builders.ModelBuilder(name=name, spec=parts | spec).raw() | {"metadata": {"name": name}}


def changes(item: Manifest) -> int:
    """How often what an object asks for has changed; a Deployment's generation also counts its annotations."""
    metadata = item["metadata"]
    if item["kind"] == "Deployment":
        return int(metadata["annotations"]["deployment.kubernetes.io/revision"])
    return int(metadata.get("generation", 0))


def look(cluster: Installation, namespace: str) -> World:
    """The world as it is now."""
    kubectl = cluster.kubectl
    made = kubectl.list(CHILD_KINDS, namespace, names.MODEL_LABEL)
    crd = kubectl.get("customresourcedefinition", build_crd()["metadata"]["name"], namespace)
    assert crd is not None
    return World(
        models={name: get_model(cluster, name, namespace) for name in MODELS},
        objects={
            f"{item['kind']}/{item['metadata']['name']}": (
                item["metadata"]["uid"],
                changes(item),
            )
            for item in made
        },
        pods={
            f"Pod/{pod['metadata']['name']}": (
                pod["metadata"]["uid"],
                sum(status["restartCount"] for status in pod["status"].get("containerStatuses", [])),
            )
            for pod in kubectl.list("pods", namespace)
        },
        schema=schema(crd),
    )


def schema(crd: Manifest) -> Any:
    """The schema of the CRD's newest version."""
    return crd["spec"]["versions"][-1]["schema"]


def passes(kubectl: Kubectl) -> int:
    """Passes that the running operator has made over resources; 0 before it has made one over each."""
    (pod,) = kubectl.list("pods", OPERATOR_NAMESPACE, "app.kubernetes.io/component=operator")
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod['metadata']['name']}:{METRICS_PORT}/proxy/metrics"
    text = kubectl.run("get", "--raw", path)
    (known,) = re.findall(r"^toxicity_operator_resources ([0-9.]+)$", text, re.MULTILINE)
    if round(float(known)) < len(MODELS):
        return 0
    counts = re.findall(r"^toxicity_operator_reconciles_total\{[^}]*\} ([0-9.]+)$", text, re.MULTILINE)
    return round(sum(map(float, counts)))


def wait_for_passes(kubectl: Kubectl, more: int) -> None:
    """So many more passes than there have been: the changes of the last moment have been looked at."""
    wait_until("a pass over every resource", lambda: passes(kubectl), SECONDS)
    goal = passes(kubectl) + more
    wait_until(f"{more} more passes", lambda: passes(kubectl) >= goal, SECONDS)


@pytest.fixture(scope="module")
def no_chart(cluster: Installation, module_namespace: str) -> Iterator[None]:
    """The session's operator is away while the tests of this module run; the CRD stays, as helm leaves it."""
    helm = [str(cluster.helm), "--kubeconfig", str(cluster.kubectl.kubeconfig), "-n", OPERATOR_NAMESPACE]
    run([*helm, "uninstall", RELEASE, "--wait"])
    yield
    install_chart(cluster)


@pytest.fixture(scope="module")
def earlier(embedded: Settings) -> Path:
    """The sources of the earlier version."""
    return sources_of(FROM, embedded)


@pytest.fixture(scope="module")
def upgrade(
    cluster: Installation, embedded: Settings, earlier: Path, no_chart: None, module_namespace: str
) -> Upgrade:
    """Two resources that the earlier version has brought to Ready and one that trains, then upgraded."""
    namespace, kubectl = module_namespace, cluster.kubectl
    operator = operator_of(earlier, embedded)
    stages = build_stand_in(embedded, operator, earlier / "tests" / "builders.py")
    install_chart(cluster, earlier / CHART.relative_to(CHART.parents[1]), values(operator, stages, namespace))
    kubectl.apply(a_model(DONE, QUICK_SEED), namespace)
    kubectl.apply(a_model(RETAINED, QUICK_SEED, storage={"reclaim": "Retain"}), namespace)
    kubectl.apply(a_model(TRAINING, PATIENT_SEED), namespace)
    for name in (DONE, RETAINED):
        wait_for_condition(cluster, name, namespace, READY, SECONDS)
    wait_until("the training runs", lambda: running_training(kubectl, namespace), SECONDS)
    before = look(cluster, namespace)
    install_chart(cluster, CHART, values(cluster.images["operator"], mirror(embedded, stages), namespace))
    wait_for_passes(kubectl, len(MODELS))
    return Upgrade(namespace, before, look(cluster, namespace))


def values(operator: str, stages: str, namespace: str) -> dict[str, Any]:
    """The chart's: an operator that looks after one namespace, and one image for every stage."""
    return {"images": dict.fromkeys(STAGE_IMAGES, stages) | {"operator": operator}, "watchNamespaces": [namespace]}


def running_training(kubectl: Kubectl, namespace: str) -> Manifest | None:
    """The pod of the training that waits to be told to go on."""
    job = running_training_job(kubectl, namespace)
    found = [pod for pod in pods_of(kubectl, job) if pod["status"]["phase"] == "Running"] if job else []
    return found[0] if found else None


def test_crd_is_upgraded(upgrade: Upgrade, earlier: Path) -> None:
    file = earlier / "helm/toxicity-operator/files/toxicitymodels.yaml"
    assert upgrade.before.schema == schema(yaml.safe_load(file.read_text(encoding="utf-8")))
    assert upgrade.after.schema == schema(build_crd())


def test_upgrade_makes_no_job_and_rolls_out_nothing(upgrade: Upgrade) -> None:
    before, after = upgrade.before.objects, upgrade.after.objects
    assert {name: after.get(name) for name in before} == before
    # a kind of child that the earlier version did not have
    assert set(after) - set(before) == {f"PodDisruptionBudget/{name}-serve" for name in (DONE, RETAINED)}
    assert upgrade.after.pods == upgrade.before.pods


def test_finished_resources_are_still_ready(upgrade: Upgrade) -> None:
    for name in (DONE, RETAINED):
        before, after = (
            condition(world.models[name], ConditionType.READY) for world in (upgrade.before, upgrade.after)
        )
        assert (after["status"], after["reason"], after["lastTransitionTime"]) == (
            before["status"], before["reason"], before["lastTransitionTime"],
        )  # fmt: skip


def test_status_says_what_was_made_with_other_images(upgrade: Upgrade) -> None:
    for name in (DONE, RETAINED):
        outdated = upgrade.after.models[name]["status"]["outdated"]
        images = {item["stage"]: item for item in outdated if item["subject"] == "image"}
        assert set(images) == {"training", "quantization", "evaluation"}
        for item in images.values():
            assert item["present"].startswith("mirror.example/") and not item["madeWith"].startswith(
                "mirror.example/"
            )


def test_running_training_goes_on_to_ready(cluster: Installation, upgrade: Upgrade) -> None:
    kubectl, namespace = cluster.kubectl, upgrade.namespace
    pod = running_training(kubectl, namespace)
    assert pod is not None
    go_on = f"open('{GO_ON}', 'w').close()"
    kubectl.run("exec", pod["metadata"]["name"], "-n", namespace, "--", "python3", "-c", go_on)
    wait_for_condition(cluster, TRAINING, namespace, READY, SECONDS)
    now = look(cluster, namespace)
    trainings = {name for name in now.jobs() if f"{TRAINING}-{names.TRAIN}-" in name}
    assert trainings == {name for name in upgrade.before.jobs() if f"{TRAINING}-{names.TRAIN}-" in name}
    assert now.objects.items() >= upgrade.before.objects.items()
    assert {name for name in now.jobs() - upgrade.before.jobs() if not name.startswith(f"{TRAINING}-")} == set()


def test_new_run_of_the_load_test_is_the_only_new_job(cluster: Installation, upgrade: Upgrade) -> None:
    kubectl, namespace = cluster.kubectl, upgrade.namespace
    before = look(cluster, namespace)
    for name in (DONE, RETAINED):
        patch_spec(kubectl, name, namespace, {"loadTest": {"runId": "after the upgrade"}})
    for name in (DONE, RETAINED):
        model = wait_for_condition(cluster, name, namespace, READY, SECONDS)
        assert model["status"]["loadTest"]["runId"] == "after the upgrade"
    wait_for_passes(kubectl, len(MODELS))
    after = look(cluster, namespace)
    new = sorted(name.rpartition("-")[0] for name in after.jobs() - before.jobs())
    assert new == [f"{DONE}-{names.LOADTEST}", f"{RETAINED}-{names.LOADTEST}"]
    assert not_load_tests(after.objects) == not_load_tests(before.objects)
    assert {name: seen for name, seen in after.pods.items() if f"-{names.LOADTEST}-" not in name} == {
        name: seen for name, seen in before.pods.items() if f"-{names.LOADTEST}-" not in name
    }


def not_load_tests(seen: Seen) -> Seen:
    """Without the Jobs of load tests: the Job of the run before may be removed."""
    return {key: value for key, value in seen.items() if f"-{names.LOADTEST}-" not in key}
