"""Downloads a base model or a data set to the model's volume: `python -m toxicity_training.download`.

The init containers of the training Job run it. A folder appears under its final name only when it is complete, and is
not downloaded twice; `toxicity_api.attempts` describes concurrent attempts. An expected failure writes one sentence to
the termination message; the exit code says whether a retry may help.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from toxicity_api.attempts import keep_alive, open_folder
from toxicity_stage.artifacts import TERMINATION_LOG, exit_code, is_volume_full
from toxicity_stage.errors import DownloadError, InputError, about, detail_of
from toxicity_training.sources.commits import pinned_commit

if TYPE_CHECKING:
    from toxicity_training.sources.hub import Repository

TERMINATED = 128 + signal.SIGTERM


def main(arguments: list[str] | None = None) -> int:
    """Downloads the model or data set of the arguments and returns the exit code."""
    options = build_parser().parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # keep progress bars out of the log
    if options.target.is_dir():
        return _there(options.target, "exists already")
    try:
        with work_folder(options.target) as work:
            publish(options.fetch(options, work), options.target)
    except (InputError, DownloadError, OSError) as error:
        if options.target.is_dir():
            return _there(options.target, "exists: another pod has downloaded it")
        reported = _reported(error, options.target, options.field)
        options.termination_log.write_text(str(reported), encoding="utf-8")
        print(f"download: {reported}", file=sys.stderr, flush=True)
        return exit_code(reported)
    return _there(options.target, "is downloaded")


def _there(target: Path, words: str) -> int:
    """Logs the outcome; returns exit code 0."""
    print(f"download: {target} {words}", flush=True)
    return 0


def _reported(error: Exception, target: Path, field: str) -> Exception:
    """The error to report: about `field`, or for a full volume, one that names the field to raise."""
    if is_volume_full(error):
        return DownloadError(
            f"spec.storage.size: no space is left for {target}; raise spec.storage.size,"
            " which needs allowVolumeExpansion in the storage class"
        )
    if isinstance(error, OSError):
        return DownloadError(f"download: cannot write {target}: {detail_of(error)}; check the model's volume")
    if isinstance(error, InputError):
        return InputError(error.reason, about(str(error), field))
    return DownloadError(about(str(error), field))


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`; it is removed when the block ends or the process is terminated."""
    work = open_folder(target, os.getpid())
    keep_alive(work)

    def end(*_: object) -> None:
        # no exception: the hub's client would first wait for its download threads, longer than the kubelet waits
        shutil.rmtree(work, ignore_errors=True)
        os._exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)  # by default the first process of a container ignores SIGTERM
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def publish(whole: Path, target: Path) -> None:
    """Renames `whole` to `target`; if another pod was first, its folder stays, since it has the same content."""
    try:
        os.rename(whole, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _fetch_model(options: argparse.Namespace, work: Path) -> Path:
    from toxicity_training.sources.hub import MODEL_FIELD, MODELS, Repository, download_model

    repository = Repository(options.repo, options.revision, MODEL_FIELD, MODELS)
    return download_model(_pinned(repository, options.target, work), work / "whole")


def _fetch_from_hub(options: argparse.Namespace, work: Path) -> Path:
    from toxicity_training.sources.hub import DATASET_FIELD, DATASETS, Repository, download_file

    repository = Repository(options.repo, options.revision, DATASET_FIELD, DATASETS)
    found = download_file(_pinned(repository, options.target, work), options.file, work / "parts")
    return _folder_of(found, work, options.save_as)


def _pinned(repository: Repository, target: Path, work: Path) -> Repository:
    """The repository at the commit that all attempts at `target` download."""
    from toxicity_training.sources import hub

    commit = pinned_commit(target, work, repository.name, repository.revision, lambda: hub.resolve(repository))
    return replace(repository, commit=commit)


def _fetch_from_kaggle(options: argparse.Namespace, work: Path) -> Path:
    from toxicity_training.sources import kaggle

    commit = pinned_commit(options.target, work, options.dataset, "", lambda: kaggle.resolve(options.dataset))
    found = kaggle.download_file(options.dataset, options.file, work / "parts", commit)
    return _folder_of(found, work, options.save_as)


def _folder_of(file: Path, work: Path, name: str) -> Path:
    """A folder in `work` that contains only the file, as `name`."""
    whole = work / "whole"
    whole.mkdir()
    os.rename(file, whole / name)
    return whole


def build_parser() -> argparse.ArgumentParser:
    """The command line that the operator's manifests use."""
    parser = argparse.ArgumentParser(prog="toxicity_training.download", description=(__doc__ or "").split(":")[0])
    commands = parser.add_subparsers(required=True, metavar="{model,dataset-hub,dataset-kaggle}")
    model = commands.add_parser("model", help="a base model from the Hugging Face hub")
    model.set_defaults(fetch=_fetch_model)
    hub = commands.add_parser("dataset-hub", help="a data file from the Hugging Face hub")
    hub.add_argument("--file", help="path in the repository; unset means its only data file")
    hub.set_defaults(fetch=_fetch_from_hub)
    for command in (model, hub):
        command.add_argument("--repo", required=True, help="owner/name")
        command.add_argument("--revision", default="main", help="branch, tag or commit")
    kaggle = commands.add_parser("dataset-kaggle", help="a data file from Kaggle")
    kaggle.add_argument("--dataset", required=True, help="owner/name")
    kaggle.add_argument("--file", required=True, help="path in the data set")
    kaggle.set_defaults(fetch=_fetch_from_kaggle)
    for command in (hub, kaggle):
        command.add_argument("--save-as", required=True, help="name of the file in the target folder")
    for command in (model, hub, kaggle):
        command.add_argument("--target", type=Path, required=True, help="folder to create")
        command.add_argument(
            "--field", default="dataset", help="field of the spec that messages name for a data set"
        )
        command.add_argument(
            "--termination-log", type=Path, default=TERMINATION_LOG, help="file for the message of a failure"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
