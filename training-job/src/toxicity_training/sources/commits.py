"""The commit that a folder was downloaded from, stored beside it in `<folder>.source/source.json`.

A branch or tag is resolved once per folder: the first attempt stores the commit before it downloads. Retries and
concurrent pods download the stored commit. The training stage reports it in its result.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from toxicity_api.attempts import publish_folder
from toxicity_api.base import Document, read_document
from toxicity_api.results import SourceFacts

SOURCE_FILE = "source.json"


class Source(Document):
    repo: str = Field(description="repo that it was downloaded from, owner/name.")
    revision: str = Field(description="revision that the spec names; empty on Kaggle.")
    commit: str = Field(description="commit that the revision resolved to; on Kaggle the version.")


def source_folder(target: Path) -> Path:
    """The folder that holds the source of the downloaded folder `target`."""
    return target.with_name(f"{target.name}.source")


def read_source(target: Path) -> Source | None:
    """The source of `target`; None if it is not stored."""
    try:
        return read_document(Source, (source_folder(target) / SOURCE_FILE).read_bytes(), SOURCE_FILE)
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def pinned_commit(target: Path, work: Path, repo: str, revision: str, resolve: Callable[[], str]) -> str:
    """The commit to download to `target`: the stored one, else the result of `resolve`, which is then stored.

    `work` is this attempt's temporary folder. Empty if `resolve` returns an empty string.
    """
    known = read_source(target)
    if known is not None:
        return known.commit
    commit = resolve()
    if commit:
        own = work / "source"
        own.mkdir()
        text = Source(repo=repo, revision=revision, commit=commit).model_dump_json(by_alias=True)
        (own / SOURCE_FILE).write_text(f"{text}\n", encoding="utf-8")
        if not publish_folder(own, source_folder(target), SOURCE_FILE, _is_source):
            known = read_source(target)
    return known.commit if known else commit


def _is_source(content: bytes) -> bool:
    try:
        read_document(Source, content, SOURCE_FILE)
    except ValidationError:
        return False
    return True


def source_facts(dataset_path: Path, base_model_path: Path) -> SourceFacts | None:
    """The commits of the downloaded data set and base model; None if neither was downloaded."""
    dataset, base_model = read_source(dataset_path.parent), read_source(base_model_path)
    if dataset is None and base_model is None:
        return None
    return SourceFacts(
        dataset_commit=dataset.commit if dataset else None,
        base_model_commit=base_model.commit if base_model else None,
    )
