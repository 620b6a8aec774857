"""`make demo CLUSTER=current` on a cluster that gets its images only from a registry with TLS and a login, in order:
without a login, with a node that does not trust the registry, and as it should be."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import dataclass

import pytest

from support.e2e.private_registry import PrivateCluster
from support.registry import USER
from toxicity_api.base import PLURAL
from toxicity_cluster.containerd import list_images
from toxicity_cluster.demo import EXAMPLES, NAMESPACE
from toxicity_cluster.demo_cluster import NODE_IMAGES
from toxicity_cluster.demo_install import OPERATOR_NAMESPACE, ROOT
from toxicity_cluster.demo_kubectl import Manifest
from toxicity_cluster.demo_pull import PULL_SECRET
from toxicity_cluster.demo_watch import is_done
from toxicity_cluster.node_image import REPOSITORY

pytestmark = pytest.mark.registry

ELSEWHERE = {"REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "MAKEFLAGS", "MAKELEVEL"}
"""Variables that would replace the files of the user's home folder, or add the arguments of the make that runs this."""


@dataclass(frozen=True)
class Run:
    """How `make demo` ended, and everything that it printed."""

    status: int
    output: str


def make_demo(private: PrivateCluster, *arguments: str) -> Run:
    """Run the demo as the user whose home folder has the login, and print its output as it comes."""
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    environment |= {"HOME": str(private.home), "KUBECONFIG": str(private.settings.kubeconfig)}
    command = ["make", "demo", "CLUSTER=current", f"REGISTRY={private.prefix}", *arguments]
    print(f"\n$ {' '.join(command)}", flush=True)
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return Run(process.returncode, "".join(lines))


def secrets_of(registry_password: str) -> list[str]:
    """The password as it could be printed."""
    return [registry_password, base64.b64encode(f"{USER}:{registry_password}".encode()).decode()]


def all_pods(private: PrivateCluster) -> list[Manifest]:
    return [pod for space in (NAMESPACE, OPERATOR_NAMESPACE) for pod in private.kubectl.list("pods", space)]


def images_of(pod: Manifest) -> set[str]:
    spec = pod["spec"]
    return {container["image"] for container in [*spec["containers"], *spec.get("initContainers", [])]}


def test_nodes_without_a_login_stop_the_demo_before_it_installs_anything(private: PrivateCluster) -> None:
    run = make_demo(private, "PULL_SECRET=none")

    assert run.status != 0
    image = f"{private.prefix}/toxicity-operator:[0-9a-f]{{12}}"
    assert re.search(
        f"error: The node toxicity-node cannot pull {image}: {private.registry.host} wants a login", run.output
    )
    assert f"login {private.registry.host}`" in run.output
    failed = re.search(r"checking that a node can pull the images: failed after ([0-9.]+) s", run.output)
    assert failed is not None and float(failed[1]) < 120
    assert all_pods(private) == []
    assert {name for name in list_images(private.settings) if not name.startswith(REPOSITORY)} == set()


def test_a_node_that_does_not_trust_the_registry_stops_the_demo_too(private: PrivateCluster) -> None:
    private.node_ca.unlink()
    run = make_demo(private)
    private.let_the_node_trust()

    assert run.status != 0
    assert f"it does not trust the certificate of {private.registry.host}: add its CA to the nodes" in run.output
    assert all_pods(private) == []


def test_the_demo_ends_with_a_model_that_serves_from_images_of_the_registry(private: PrivateCluster) -> None:
    run = make_demo(private)

    assert run.status == 0
    model = private.kubectl.get(PLURAL, "ru-toxicity", NAMESPACE)
    assert model is not None and is_done(model)
    for label, text in zip(("toxic", "harmless"), EXAMPLES, strict=True):
        assert re.search(rf"^ +{label} +[01]\.\d{{3}} +{text}$", run.output, re.MULTILINE)
    assert not [secret for secret in secrets_of(private.registry.password) if secret in run.output]

    pods = all_pods(private)
    assert {pod["metadata"]["namespace"] for pod in pods} == {NAMESPACE, OPERATOR_NAMESPACE}
    for pod in pods:
        assert all(image.startswith(f"{private.prefix}/") for image in images_of(pod)), pod["metadata"]["name"]
        assert pod["spec"]["imagePullSecrets"] == [{"name": PULL_SECRET}], pod["metadata"]["name"]
    present = {name for name in list_images(private.settings) if not name.startswith(REPOSITORY)}
    by_tag = {name for name in present if "@" not in name}
    assert {name.rpartition(":")[0] for name in by_tag} == {
        f"{private.prefix}/toxicity-{part}" for part in NODE_IMAGES
    }
    assert all(name.startswith(f"{private.prefix}/") for name in present)
