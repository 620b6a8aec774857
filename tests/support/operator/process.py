"""Runs `python -m toxicity_operator` as a process with its own ServiceAccount and permissions."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubernetes import client
from prometheus_client.parser import text_string_to_metric_families

from support.operator.api_server import SYSTEM_NAMESPACE, ApiServer, die_with_parent
from support.ports import free_ports
from toxicity_operator.kube.permissions import RULES
from toxicity_operator.settings import Images

IMAGES = {f"IMAGE_{part.upper()}": f"{part}-image:1" for part in Images.__dataclass_fields__}
STOP_SECONDS = 60
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def electing(name: str, lease: str) -> dict[str, str]:
    """The environment of a process with leader election."""
    names = {"LEASE_NAMESPACE": SYSTEM_NAMESPACE, "LEASE_NAME": lease, "POD_NAME": name}
    return {"LEADER_ELECTION": "true", **names}


class OperatorProcess:
    """A running operator process whose output goes to a file."""

    def __init__(self, kubeconfig: Path, log: Path, environment: dict[str, str]) -> None:
        self._log = log
        self._ports = free_ports(2)
        ports = dict(zip(("LIVENESS_PORT", "METRICS_PORT"), map(str, self._ports), strict=True))
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "toxicity_operator"],
                env={**os.environ, **IMAGES, **ports, "KUBECONFIG": str(kubeconfig), **environment},
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )

    def output(self) -> str:
        """The output so far."""
        return self._log.read_text()

    def is_well(self) -> bool | None:
        """The response of the liveness probe; None if there is none."""
        try:
            with NO_PROXY.open(f"http://127.0.0.1:{self._ports[0]}/healthz", timeout=10) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False
        except OSError:
            return None

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric; None if it does not exist or there is no response."""
        try:
            with NO_PROXY.open(f"http://127.0.0.1:{self._ports[1]}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
        return found[0] if found else None


def set_rights(server: ApiServer, account: str, without: str = "") -> None:
    """Grant the operator's rules, except list and watch of one resource."""
    rules = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb not in ("list", "watch")]}
        if rule["resources"] == [without]
        else rule
        for rule in RULES
    ]
    body = {"metadata": {"name": account}, "rules": [rule for rule in rules if rule["verbs"]]}
    client.RbacAuthorizationV1Api(server.connect()).replace_cluster_role(account, body)


@contextmanager
def running_operator(
    server: ApiServer, folder: Path, account: str, environment: dict[str, str]
) -> Iterator[OperatorProcess]:
    """Start a process, and stop it at the end."""
    operator = OperatorProcess(server.operator_kubeconfig(account), folder / f"{account}.log", environment)
    try:
        yield operator
    finally:
        operator.process.terminate()
        try:
            operator.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            operator.process.kill()
            operator.process.wait()
