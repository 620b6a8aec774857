"""How soon a serving pod starts with each kind of storage, on the embedded cluster: `make bench-storage`.

One model is trained and evaluated through an object store (versitygw on this machine). Its pod is then started again
and again: from the store, with an empty cache on the node, and with a filled one. At last its artifacts are copied to
a volume, on which a second resource of the same spec finds its stages finished, and that pod is started too. Before
each start the Deployment is scaled to 0, so that no other pod of the model uses the CPU.

Server, volume, cache and pods share one disk, and its files are in the page cache: the figures compare the work, not
networks or disks.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config, watch

from benchmarks.storage_figures import Start, Transfer, caching_seconds, first_seen, rate, table, transfers
from support.e2e import nodes
from support.e2e.scenario import condition, config_map_of, get_model, patch_spec, small_model
from support.store.server import KEY, SECRET, S3Server, running
from toxicity_api.base import PLURAL
from toxicity_api.conditions import ConditionType
from toxicity_api.spec import ObjectStore
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, FetchConfig, InputFolder
from toxicity_cluster.build import build_program
from toxicity_cluster.demo_cluster import prepare_cluster
from toxicity_cluster.demo_install import SAMPLE_DATASET, SAMPLES, Installation, install_chart
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, diagnostics, wait_until
from toxicity_cluster.demo_watch import ModelFailed, failed_condition, status_of
from toxicity_cluster.errors import ClusterError, Refusal
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import FIRST_NODE, HOST_ADDRESS, Settings
from toxicity_operator.manifests.object_store import DOWNLOAD, SECRETS
from toxicity_operator.names import SERVE, selector_labels

STORED, ON_VOLUME = "stored", "on-volume"
"""Names of the two resources."""

CLAIM, CREDENTIALS = "artifacts-of-both", "store-key"
CACHE_CLAIM = "node-models"
READY_SECONDS = 40 * 60
START_SECONDS = 15 * 60
STOP_SECONDS = 3 * 60
COPY = """
import pathlib, shutil, sys, time
source = pathlib.Path(sys.argv[1])
began = time.monotonic()
shutil.copytree(source, f"{source}.copy")
seconds = time.monotonic() - began
shutil.rmtree(f"{source}.copy")
size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
print(f"fetched name={source.name} store_bytes={size} seconds={seconds:.3f}")
"""


@dataclass(frozen=True)
class Bench:
    """The benchmark in one namespace of an installation."""

    installation: Installation
    namespace: str
    server: S3Server
    cache: Path
    """the folder of the node's cache, on this machine"""
    say: Callable[[str], None]

    @property
    def kubectl(self) -> Kubectl:
        return self.installation.kubectl

    def model(self, name: str, storage: dict[str, Any]) -> Manifest:
        """The resource: a small model on the first node, without quantization, load test and autoscaling."""
        model = small_model(name, "comments", self.installation.images)
        spec = model["spec"]
        spec["storage"] = storage
        spec["quantization"] = {"method": "none", "gpus": 0}
        spec["loadTest"] = {"enabled": False}
        del spec["serving"]["autoscaling"]
        spec["serving"] |= {"replicas": 1, "nodeSelector": {"kubernetes.io/hostname": FIRST_NODE.name}}
        return model

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(url="s3://models/team", endpoint=self.server.endpoint, secret_name=CREDENTIALS)

    def train(self) -> Manifest:
        """Applies the resource in the store and waits until it is served."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS}, "stringData": keys}
        storage = {"objectStore": self.store.to_wire(), "scratch": {"size": "5Gi"}}
        for document in (secret, config_map_of("comments", SAMPLE_DATASET), self.model(STORED, storage)):
            self.kubectl.apply(document, self.namespace)
        return self.ready(STORED)

    def ready(self, name: str) -> Manifest:
        """The resource once it is Ready for its present spec. Raises ModelFailed or DeadlineExceeded."""

        def look() -> Manifest | None:
            model = get_model(self.installation, name, self.namespace)
            failed = failed_condition(model)
            if failed is not None:
                raise ModelFailed(f"{name}: {failed.type} {failed.reason}: {failed.message}")
            return model if condition(model, ConditionType.READY).get("status") == "True" else None

        self.say(f"{name}: waiting until it is Ready")
        return wait_until(f"{name} is Ready", look, READY_SECONDS)

    def starts(self, name: str, count: int, way: str, prepare: Callable[[], None] = lambda: None) -> list[Start]:
        """Starts the pod of the resource `count` times, each after `prepare`, while none runs."""
        found = []
        for number in range(1, count + 1):
            self.scale(name, 0)
            wait_until("the pods to end", lambda: not self.pods(name), STOP_SECONDS, 0.5)
            prepare()
            found.append(self.start(name))
            seconds = {title: round(value, 1) for title, value in found[-1].seconds.items()}
            self.say(f"{way}, start {number} of {count}: {seconds}")
        return found

    def pods(self, name: str) -> Sequence[Manifest]:
        return self.kubectl.list("pods", self.namespace, _selector(name))

    def scale(self, name: str, replicas: int) -> None:
        self.kubectl.run("scale", f"toxicitymodel/{name}", f"--replicas={replicas}", "-n", self.namespace)

    def start(self, name: str) -> Start:
        """Scales from 0 to 1 and follows the pod until it is ready."""
        settings = client.Configuration()
        config.load_kube_config(str(self.kubectl.kubeconfig), client_configuration=settings)
        core = client.CoreV1Api(client.ApiClient(settings))
        chosen = {"namespace": self.namespace, "label_selector": _selector(name)}
        version = core.list_namespaced_pod(**chosen).metadata.resource_version
        self.scale(name, 1)
        stream = watch.Watch().stream(
            core.list_namespaced_pod, **chosen, resource_version=version, timeout_seconds=START_SECONDS
        )
        seconds = first_seen((time.monotonic(), event["raw_object"]) for event in stream)
        (pod,) = self.pods(name)
        if not pod["spec"].get("initContainers"):
            return Start(seconds)
        log = self.kubectl.run("logs", pod["metadata"]["name"], "-n", self.namespace, "-c", DOWNLOAD)
        return Start(seconds, transfers(log), caching_seconds(log))

    def use_cache(self) -> None:
        """Makes the volume and the claim of the sample, and sets nodeCache."""
        volume, claim = yaml.safe_load_all((SAMPLES / "node-cache.yaml").read_text(encoding="utf-8"))
        for document in (volume, claim):
            document["metadata"]["name"] = {"PersistentVolume": self.namespace}.get(document["kind"], CACHE_CLAIM)
        volume["spec"]["claimRef"] = {"namespace": self.namespace, "name": CACHE_CLAIM}
        volume["spec"]["local"]["path"] = str(self.cache)
        claim["metadata"]["namespace"] = self.namespace
        claim["spec"]["volumeName"] = self.namespace
        for document in (volume, claim):
            self.kubectl.apply(document, self.namespace)
        cache = {"claimName": CACHE_CLAIM, "size": "10Gi"}
        patch_spec(self.kubectl, STORED, self.namespace, {"storage": {"nodeCache": cache}})
        self.ready(STORED)

    def empty_cache(self) -> None:
        for path in self.cache.iterdir():
            path.unlink()

    def fill_volume(self) -> Transfer:
        """Downloads all artifacts to a new volume, then copies the training's there. Returns the copy."""
        claim: Manifest = {
            **nodes.CLAIM,
            "metadata": {"name": CLAIM},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        }
        self.kubectl.apply(claim, self.namespace)
        data, volume = Path("/data"), {"persistentVolumeClaim": {"claimName": CLAIM}}
        names = [path.split("/")[0] for path in self.server.files() if re.fullmatch(r"[^/]+/manifest\.json", path)]
        inputs = [InputFolder(path=data / name) for name in names]
        document = FetchConfig(object_store=self.store, artifacts=data, inputs=inputs)
        fill = nodes.python_pod(self.installation, "fill", FIRST_NODE, "", volume=volume)
        (container,) = fill["spec"]["containers"]
        container |= {
            "image": self.installation.images["serving"],
            "command": ["python", "-m", "toxicity_store", "fetch"],
            "env": [{"name": STAGE_CONFIG_VARIABLE, "value": document.model_dump_json(by_alias=True)}],
        }
        container["volumeMounts"].append({"name": "credentials", "mountPath": f"{SECRETS}/credentials"})
        fill["spec"]["volumes"].append({"name": "credentials", "secret": {"secretName": CREDENTIALS}})
        nodes.output(self.installation, self.namespace, fill)
        (trained,) = (name for name in names if name.startswith("train-"))
        copy = nodes.python_pod(self.installation, "copy", FIRST_NODE, COPY, str(data / trained), volume=volume)
        (copied,) = transfers(nodes.output(self.installation, self.namespace, copy))
        return copied

    def serve_from_volume(self, stored: Manifest) -> None:
        """Applies the second resource, which must find the stages of the first one finished."""
        self.kubectl.apply(self.model(ON_VOLUME, {"claimName": CLAIM}), self.namespace)
        made, found = status_of(stored), status_of(self.ready(ON_VOLUME))
        for before, after in ((made.training, found.training), (made.evaluation, found.evaluation)):
            if before is None or after is None or before.fingerprint != after.fingerprint:
                raise ClusterError(f"{ON_VOLUME} serves other artifacts than {STORED}: {before}, {after}")

    def stage_transfers(self) -> str:
        """What the stages moved, one line per artifact."""
        jobs = [job["metadata"]["name"] for job in self.kubectl.list("jobs", self.namespace)]
        logs = [self.kubectl.run("logs", f"job/{job}", "-n", self.namespace) for job in jobs]
        found = [each for log in logs for each in transfers(log) if ".checkpoints" not in each.name]
        return "\n".join(
            f"  {each.verb} {each.name}: {each.store_bytes / 1e6:.0f} MB at {rate([each]):.0f} MB/s"
            for each in found
        )


def _selector(name: str) -> str:
    return ",".join(f"{key}={value}" for key, value in selector_labels(name, SERVE).items())


def measure(bench: Bench, count: int) -> str:
    """All starts, as the text to print."""
    stored = bench.train()
    stages = bench.stage_transfers()
    ways = {"object store": bench.starts(STORED, count, "object store")}
    bench.use_cache()
    ways["cache, empty"] = bench.starts(STORED, count, "cache, empty", bench.empty_cache)
    ways["cache, filled"] = bench.starts(STORED, count, "cache, filled")
    bench.scale(STORED, 0)
    copied = bench.fill_volume()
    bench.serve_from_volume(stored)
    ways = {"volume": bench.starts(ON_VOLUME, count, "volume"), **ways}
    return (
        f"{count} starts each, from the pod's creation: median lowest–highest\n\n{table(ways)}\n\n"
        f"stages, through the store:\n{stages}\n"
        f"copy of {copied.name} on the volume: {copied.store_bytes / 1e6:.0f} MB at {rate([copied]):.0f} MB/s"
    )


@contextmanager
def own_namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace that enforces `restricted`. At the end it is removed with the volume of the same name."""
    name = f"bench-storage-{secrets.token_hex(4)}"
    kubectl.ensure_namespace(name)
    try:
        yield name
    except ClusterError:
        print(diagnostics(kubectl, name), file=sys.stderr)
        raise
    finally:
        for arguments in ((PLURAL, "--all", "-n", name), ("namespace", name), ("pv", name, "--ignore-not-found")):
            kubectl.run("delete", *arguments, "--wait", "--timeout=180s", timeout_seconds=200)


def run(count: int) -> str:
    settings, progress = Settings.from_environment(), Progress()
    if settings.given_kubeconfig:
        raise Refusal(
            f"KUBECONFIG={settings.given_kubeconfig} names another cluster than the embedded one, whose node is this"
            " machine: unset it. The benchmark starts an S3 server and makes a folder on the node."
        )
    installation = prepare_cluster(settings, progress, progress.step, SAMPLE_DATASET.resolve(), None)
    install_chart(installation)
    program = build_program(settings, progress, "versitygw")
    with tempfile.TemporaryDirectory(prefix="bench-storage-") as folder:
        cache = Path(folder) / "node-cache"
        cache.mkdir()
        with (
            running(S3Server(program, Path(folder) / "server", host=HOST_ADDRESS)) as server,
            own_namespace(installation.kubectl) as namespace,
        ):
            return measure(Bench(installation, namespace, server, cache, progress.say), count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5, help="how often the pod is started with each storage")
    options = parser.parse_args()
    try:
        print(run(options.starts))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
