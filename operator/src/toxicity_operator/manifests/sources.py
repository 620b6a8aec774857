"""Volumes and init containers that provide data sets and the base model to the pods of training and evaluation.

Claims and ConfigMaps are mounted. An image runs as an init container that copies its files to the artifacts volume. It
needs no shell, because the training image provides a static busybox. An init container of the training image downloads
from the Hugging Face Hub or Kaggle. An existing folder is reused. The Job sets the resources of the init containers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from toxicity_api.spec import (
    BaseModelSpec,
    DatasetSpec,
    HeldOutSet,
    HubFile,
    ImageFile,
    KaggleFile,
    LabelledFile,
    PodFields,
    ToxicityModelSpec,
    VolumeFile,
)
from toxicity_operator import names
from toxicity_operator.chain import base_model_fingerprint, dataset_fingerprint, held_out_fingerprint
from toxicity_operator.manifests.common import ARTIFACTS, Manifest, container, env, resources, verbatim

TOOLS = "/tools"
BUSYBOX = f"{TOOLS}/busybox"
DOWNLOADED_NAME = "dataset.csv"
"""Name for a downloaded file whose name is not in the spec. The reader detects the format from the content."""
HUB_KEYS = ("HF_TOKEN",)
KAGGLE_KEYS = ("KAGGLE_USERNAME", "KAGGLE_KEY")

# $0 is the busybox, since the image may have no commands. The copy runs in the background, because a shell handles
# signals only while it waits. Folders are named and touched as in toxicity_api.attempts, so that a copy does not delete
# another running one. The slower of two copies finds the target
COPY_SCRIPT = """\
set -eu
b=$0; source=$1; target=$2; partial=$2.tmp-$HOSTNAME-$$-copy; copy=; beat=
trap '[ -z "$beat" ] || kill "$beat" || :; $b rm -rf "$partial"' EXIT
trap '[ -z "$copy" ] || { kill "$copy"; wait "$copy"; }; exit 143' TERM
if [ ! -d "$target" ]; then
  $b rm -rf "$partial"
  $b mkdir -p "$partial"
  while $b sleep 60 && $b touch -c "$partial"; do :; done >/dev/null 2>&1 & beat=$!
  if [ -d "$source" ]; then source=$source/.; fi
  $b cp -RL "$source" "$partial/" & copy=$!
  { wait "$copy" && $b chmod -R u+rwX "$partial" && $b mv -T "$partial" "$target"; } || [ -d "$target" ]
fi
for left in "$target".tmp-*; do
  [ ! -d "$left" ] || $b find "$left" -prune -mmin +60 -exec "$b" rm -rf {} \\; || :
done
"""


@dataclass(frozen=True)
class Source:
    """The path of a source in the training container, with the volumes and init containers that provide it."""

    path: Path
    volumes: list[Manifest] = field(default_factory=list)
    mounts: list[Manifest] = field(default_factory=list)
    init_containers: list[Manifest] = field(default_factory=list)

    @property
    def needs_tools(self) -> bool:
        """Whether an init container needs the busybox."""
        return any(item.get("command", [""])[0] == BUSYBOX for item in self.init_containers)


@dataclass(frozen=True)
class _Wanted:
    """A file to provide: the name of its volume and container, the folder of its copy, and its field if no dataset."""

    name: str
    target: Path
    field: str = ""

    def download_arguments(self, file_name: str) -> list[str]:
        """The end of the download's arguments."""
        field = [f"--field={self.field}"] if self.field else []
        return [f"--target={self.target}", f"--save-as={file_name}", *field]


def dataset_source(spec: ToxicityModelSpec, artifacts: Manifest, training_image: str) -> Source:
    """The source of the data set file. `artifacts` is the mount of the artifacts volume. Raises ValueError."""
    wanted = _Wanted("dataset", Path(ARTIFACTS, f"dataset-{dataset_fingerprint(spec)}"))
    return _file_source(spec.dataset, wanted, artifacts, training_image)


def held_out_source(
    spec: ToxicityModelSpec, held_out: HeldOutSet, artifacts: Manifest, training_image: str
) -> Source:
    """The source of the file of a test set, as `dataset_source`."""
    target = Path(ARTIFACTS, f"dataset-{held_out_fingerprint(spec, held_out)}")
    wanted = _Wanted(names.held_out_name(held_out.name), target, names.held_out_field(held_out.name))
    return _file_source(held_out, wanted, artifacts, training_image)


def _file_source(file: LabelledFile, wanted: _Wanted, artifacts: Manifest, training_image: str) -> Source:
    name, target = wanted.name, wanted.target
    if file.config_map:
        volume = {"name": name, "configMap": {"name": file.config_map.name}}
        mount = {"name": name, "mountPath": f"/data/{name}", "readOnly": True}
        return Source(Path("/data", name, file.config_map.key), [volume], [mount])
    if file.persistent_volume_claim:
        return _from_claim(name, file.persistent_volume_claim)
    if file.image:
        copy = _copy_container(name, file.image, target, artifacts)
        return Source(target / PurePosixPath(file.image.path).name, init_containers=[copy])
    if file.hugging_face:
        return _from_hub(file.hugging_face, wanted, artifacts, training_image)
    if file.kaggle:
        return _from_kaggle(file.kaggle, wanted, artifacts, training_image)
    raise ValueError(f"{wanted.field or 'dataset'} has no source")


def base_model_source(spec: ToxicityModelSpec, artifacts: Manifest, training_image: str) -> Source:
    """The source of the base model folder. `artifacts` is the mount of the artifacts volume. Raises ValueError."""
    base = spec.base_model
    target = Path(ARTIFACTS, f"base-model-{base_model_fingerprint(spec)}")
    if base.persistent_volume_claim:
        return _from_claim("base-model", base.persistent_volume_claim)
    if base.image:
        return Source(target, init_containers=[_copy_container("base-model", base.image, target, artifacts)])
    if base.hugging_face:
        hub = base.hugging_face
        arguments = ["model", f"--repo={hub.repo}", f"--revision={hub.revision}", f"--target={target}"]
        secret = _secret_env(hub.secret_name, HUB_KEYS)
        download = _download_container("base-model", training_image, arguments, secret, artifacts)
        return Source(target, init_containers=[download])
    raise ValueError("baseModel has no source")


def add_sources(pod: Manifest, sources: Sequence[Source], training_image: str, fields: PodFields) -> None:
    """Add the init containers of `sources` to a pod whose volumes have them. `fields` are those of the pod."""
    init = [item for source in sources for item in source.init_containers]
    if any(source.needs_tools for source in sources):
        init = [tools_container(training_image), *init]
        pod["volumes"].append({"name": "tools", "emptyDir": {}})
    if init:
        # quotas and LimitRanges check every container, and a copy fills its memory limit with page cache
        amounts = resources(fields.model_copy(update={"gpus": 0}))
        pod["initContainers"] = [{**item, "resources": amounts} for item in init]


def tools_container(training_image: str) -> Manifest:
    """The init container that copies the training image's static busybox for images without a shell."""
    return container(
        "tools",
        training_image,
        command=["cp", "/usr/bin/busybox", BUSYBOX],
        volumeMounts=[{"name": "tools", "mountPath": TOOLS}],
    )


def _from_claim(name: str, source: VolumeFile) -> Source:
    volume = {"name": name, "persistentVolumeClaim": {"claimName": source.claim_name, "readOnly": True}}
    mount = {"name": name, "mountPath": f"/data/{name}", "readOnly": True}
    return Source(Path("/data", name, source.path.lstrip("/")), [volume], [mount])


def _copy_container(name: str, source: ImageFile, target: Path, artifacts: Manifest) -> Manifest:
    return container(
        name,
        source.reference,
        command=[BUSYBOX, "sh", "-c", COPY_SCRIPT, BUSYBOX],
        args=[verbatim(source.path), str(target)],
        volumeMounts=[artifacts, {"name": "tools", "mountPath": TOOLS, "readOnly": True}],
    )


def _from_hub(source: HubFile, wanted: _Wanted, artifacts: Manifest, image: str) -> Source:
    name = PurePosixPath(source.file).name if source.file else DOWNLOADED_NAME
    file = [f"--file={source.file}"] if source.file else []
    what = [f"--repo={source.repo}", f"--revision={source.revision}", *file]
    arguments = ["dataset-hub", *what, *wanted.download_arguments(name)]
    secret = _secret_env(source.secret_name, HUB_KEYS)
    download = _download_container(wanted.name, image, arguments, secret, artifacts)
    return Source(wanted.target / name, init_containers=[download])


def _from_kaggle(source: KaggleFile, wanted: _Wanted, artifacts: Manifest, image: str) -> Source:
    name = PurePosixPath(source.file).name
    what = [f"--dataset={source.dataset}", f"--file={source.file}"]
    arguments = ["dataset-kaggle", *what, *wanted.download_arguments(name)]
    secret = _secret_env(source.secret_name, KAGGLE_KEYS)
    download = _download_container(wanted.name, image, arguments, secret, artifacts)
    return Source(wanted.target / name, init_containers=[download])


def _secret_env(secret_name: str | None, keys: Sequence[str]) -> list[Manifest]:
    """A variable for each key of the Secret; empty without a Secret, which means anonymous access."""
    if not secret_name:
        return []
    return [{"name": key, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}} for key in keys]


def _download_container(
    name: str, image: str, arguments: list[str], secret: list[Manifest], artifacts: Manifest
) -> Manifest:
    return container(
        name,
        image,
        command=["python", "-m", "toxicity_training.download"],
        args=list(map(verbatim, arguments)),
        env=[*env({"HOME": "/tmp"}), *secret],
        volumeMounts=[artifacts, {"name": "tmp", "mountPath": "/tmp"}],
    )


def dataset_name(dataset: DatasetSpec) -> str:
    """The name of the data source for `status.lineage`."""
    if dataset.config_map:
        return f"configmap/{dataset.config_map.name}/{dataset.config_map.key}"
    if dataset.hugging_face:
        return f"{dataset.hugging_face.repo}@{dataset.hugging_face.revision}"
    if dataset.kaggle:
        return f"kaggle/{dataset.kaggle.dataset}/{dataset.kaggle.file}"
    if dataset.image:
        return dataset.image.reference
    return f"claim/{dataset.persistent_volume_claim.path}" if dataset.persistent_volume_claim else ""


def base_model_name(base: BaseModelSpec) -> str:
    """The name of the base model for `status.lineage` and the model card."""
    if base.hugging_face:
        return f"{base.hugging_face.repo}@{base.hugging_face.revision}"
    if base.image:
        return base.image.reference
    return base.persistent_volume_claim.path if base.persistent_volume_claim else ""
