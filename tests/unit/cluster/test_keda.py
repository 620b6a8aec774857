"""The arguments and permissions of Prometheus and KEDA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toxicity_cluster import keda
from toxicity_cluster.build import OPTIONAL_PROGRAMS
from toxicity_cluster.pki import IDENTITIES, ensure_pki
from toxicity_cluster.processes import ProcessSpec
from toxicity_cluster.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(cache=tmp_path / "cache", state=tmp_path / "state", sources=tmp_path)
    made.config.mkdir(parents=True)
    ensure_pki(made)
    keda.write_files(made)
    return made


@pytest.fixture
def processes(settings: Settings) -> list[ProcessSpec]:
    programs = {program.name: Path("/bin") / program.name for program in OPTIONAL_PROGRAMS}
    return [build(settings, programs) for build in (keda.adapter, keda.operator, keda.prometheus)]


def by_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in keda.build_objects(b"PEM") if manifest["kind"] == kind]


def test_processes_are_those_that_are_stopped_again(processes: list[ProcessSpec]) -> None:
    assert tuple(process.name for process in processes) == keda.PROCESSES
    for process in processes:
        assert f"/bin/{process.name}" in process.argv


def test_every_file_that_a_process_is_given_is_there(settings: Settings, processes: list[ProcessSpec]) -> None:
    words = [word.rpartition("=")[2] for process in processes for word in process.argv]
    given = [Path(word) for word in words if word.startswith(str(settings.state))]
    made_by_prometheus = settings.state / "prometheus"
    assert len(given) > 8
    assert {path for path in given if not path.exists()} == {made_by_prometheus}
    assert {path.name for path in keda.certificates(settings).iterdir()} == {"ca.crt", "tls.crt", "tls.key"}


def test_scraped_series_have_the_labels_that_the_operator_asks_for(settings: Settings) -> None:
    (job,) = json.loads((settings.config / "prometheus.json").read_text())["scrape_configs"]
    labels = {entry.get("target_label") for entry in job["relabel_configs"]}
    assert {"namespace", "toxicity_dev_model"} <= labels


def test_every_binding_refers_to_a_role_and_to_a_certificate_or_the_autoscaler() -> None:
    roles = {item["metadata"]["name"] for item in by_kind("ClusterRole")} | {"system:auth-delegator"}
    users = {identity.common_name for identity in IDENTITIES} | {"horizontal-pod-autoscaler"}
    bindings = by_kind("ClusterRoleBinding")
    assert len(bindings) == 4
    for binding in bindings:
        assert binding["roleRef"]["name"] in roles
        assert {subject["name"] for subject in binding["subjects"]} <= users


def test_only_metric_names_which_nobody_knows_before_are_granted_by_wildcard() -> None:
    rules = [rule for role in by_kind("ClusterRole") for rule in role["rules"]]
    wild = [rule for rule in rules if "*" in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])]
    assert wild == [{"apiGroups": [keda.EXTERNAL_METRICS], "resources": ["*"], "verbs": ["get", "list"]}]


def test_metrics_api_is_served_behind_the_service_of_its_certificate() -> None:
    (api,), (service,) = by_kind("APIService"), by_kind("Service")
    assert api["spec"]["service"]["name"] == service["metadata"]["name"]
    (identity,) = [identity for identity in IDENTITIES if identity.file == "keda-server"]
    assert f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc" in identity.server_names
