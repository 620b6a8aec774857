"""Downloads from the Hugging Face hub with huggingface_hub, which reads HF_ENDPOINT and HF_TOKEN."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from toxicity_stage.errors import DownloadError, InputError, detail_of, listed
from toxicity_training.sources.tables import SUFFIXES

MODEL_FIELD = "spec.baseModel.huggingFace"
DATASET_FIELD = "spec.dataset.huggingFace"
MODELS: Literal["model"] = "model"
DATASETS: Literal["dataset"] = "dataset"
CARD_FILE = "README.md"
"""The card of a repository, whose metadata name the licence."""
MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", CARD_FILE]
ENDINGS = tuple(f"{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz"))
TRANSIENT = (408, 425, 429)
"""HTTP statuses below 500 after which a retry may succeed."""

# the first match counts: GatedRepoError is a subclass of RepositoryNotFoundError
REFUSALS: list[tuple[type[Exception], str, str]] = [
    (
        GatedRepoError,
        "AccessDenied",
        "{field}.repo: {repo} is gated; accept its terms on the hub, then {access}",
    ),
    (
        RepositoryNotFoundError,
        "RepositoryNotFound",
        "{field}.repo: {repo} does not exist or is private; correct the name, or {access}",
    ),
    (
        RevisionNotFoundError,
        "RevisionNotFound",
        "{field}.revision: {repo} has no branch, tag or commit {revision!r}; set one that it has",
    ),
    (
        RemoteEntryNotFoundError,
        "FileNotFound",
        "{field}: {repo} at {revision} lists a file that it does not contain; set another revision",
    ),
    (
        HFValidationError,
        "RepositoryNotFound",
        "{field}.repo: {repo} is no name of a repository; write it as owner/name",
    ),
]
LOST_COMMIT = (
    "{field}.revision: {repo} no longer has the commit {commit}, to which {revision!r} was resolved at first;"
    " set revision to a commit that it has"
)


@dataclass(frozen=True)
class Repository:
    """A repository at a revision; `field` is the field of the spec that names it.

    `commit` is the commit that the revision resolved to; empty before it is resolved.
    """

    name: str
    revision: str
    field: str
    kind: Literal["model", "dataset"]
    commit: str = ""


def resolve(repository: Repository) -> str:
    """Resolves the revision to its current commit. Raises the same errors as the downloads."""
    with _explained(repository):
        found = HfApi().repo_info(repository.name, revision=repository.revision, repo_type=repository.kind)
        return str(found.sha)


def download_model(repository: Repository, folder: Path) -> Path:
    """Downloads the model's weights, configuration, tokenizer and card to `folder`, which it creates.

    Raises InputError if the repository cannot be used, DownloadError if a retry may help.
    """
    with _explained(repository):
        snapshot_download(
            repository.name, revision=repository.commit, local_dir=folder, allow_patterns=MODEL_FILES
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            "WeightsMissing",
            f"{repository.field}.repo: {repository.name} at {repository.revision} has no .safetensors file;"
            " name a repository or revision that does",
        )
    shutil.rmtree(folder / ".cache")  # the client's metadata
    return folder


def download_file(repository: Repository, file: str | None, folder: Path) -> Path:
    """Downloads one file of a data set to a path below `folder`; `file` None means the only data file.

    Raises InputError if the repository or the file cannot be used, DownloadError if a retry may help.
    """
    with _explained(repository):
        info = HfApi().dataset_info(repository.name, revision=repository.commit)
        chosen = choose_file([sibling.rfilename for sibling in info.siblings or []], file, repository)
        return Path(
            hf_hub_download(
                repository.name, chosen, repo_type=repository.kind, revision=repository.commit, local_dir=folder
            )
        )


def choose_file(names: Sequence[str], wanted: str | None, repository: Repository) -> str:
    """`wanted` if it is among `names`, or the only data file. Raises InputError listing the data files otherwise."""
    if wanted in names:
        return str(wanted)
    files = sorted(name for name in names if name.lower().endswith(ENDINGS))
    place = f"{repository.field}.file: {repository.name} at {repository.revision}"
    if not files:
        raise InputError(
            "FileNotFound",
            f"{place} has no file that ends in {', '.join(SUFFIXES)} or one of these with .gz; name a repository or"
            " revision that does",
        )
    if wanted is not None:
        raise InputError("FileNotFound", f"{place} has no {wanted!r}; set file to one of {listed(files)}")
    if len(files) > 1:
        raise InputError(
            "AmbiguousFile", f"{place} has {len(files)} data files; set file to one of {listed(files)}"
        )
    return files[0]


@contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    try:
        yield
    except (httpx2.HTTPError, OSError, HFValidationError) as error:
        # the client replaces the hub's error with one about its empty cache
        hidden = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
        raise _explanation(repository, hidden or error) from error


def _explanation(repository: Repository, error: BaseException) -> InputError | DownloadError:
    words = {
        "field": repository.field,
        "repo": repository.name,
        "revision": repository.revision,
        "commit": repository.commit,
        "access": _access(repository),
    }
    is_resolved = repository.commit not in ("", repository.revision)
    for kind, reason, sentence in REFUSALS:
        if isinstance(error, kind):
            is_lost = is_resolved and kind is RevisionNotFoundError
            return InputError(reason, (LOST_COMMIT if is_lost else sentence).format(**words))
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if 400 <= status < 500 and status not in TRANSIENT:
        sentence = "{field}.repo: the hub refused access to {repo} (HTTP {status}); {access}"
        return InputError("AccessDenied", sentence.format(status=status, **words))
    return DownloadError(
        f"{repository.field}: cannot download {repository.name} from {constants.ENDPOINT}: {detail_of(error)};"
        " check the cluster's network access, or provide the files in a volume or an image"
    )


def _access(repository: Repository) -> str:
    if os.environ.get("HF_TOKEN"):
        return f"put the HF_TOKEN of an account that may read it into the Secret of {repository.field}.secretName"
    return f"set {repository.field}.secretName to a Secret with the HF_TOKEN of an account that may read it"
