"""A grid of training configurations: its YAML file and the stage configurations that follow from it.

Pure except for `read_grid` and the digests. The fingerprint of a run hashes what its result depends on: the content
of the data set and of the base model, the settings that differ from their defaults, and the code, which has the
defaults. It does not include the run's name, paths or pod placement.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

import toxicity_api
import toxicity_stage
import toxicity_training
from toxicity_api.base import Document
from toxicity_api.fingerprint import WITHOUT_INFLUENCE, content, fingerprint
from toxicity_api.spec import NonEmpty, Score, Split, TrainingSpec
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.errors import InputError

DEFAULT_BASE_MODEL = ""
"""The key of the base model of runs that set none."""


class GridError(InputError):
    """The grid or the command line is invalid."""


class Published(Document):
    """Metrics published elsewhere for a run; the table shows them below the measured ones."""

    f1: Score | None = Field(None, description="f1 of the toxic class.")
    precision: Score | None = Field(None, description="precision of the toxic class.")
    recall: Score | None = Field(None, description="recall of the toxic class.")


class GridDataset(Document):
    split: Split = Field(default_factory=Split, description="split into train, validation and test rows.")


class GridRun(Document):
    name: Annotated[str, Field(min_length=1, max_length=28, pattern=r"^[^|\r\n]+$")] = Field(
        description="name of the run in the table."
    )
    training: TrainingSpec = Field(
        default_factory=TrainingSpec, description="training: settings that differ from the grid's training."
    )
    base_model: NonEmpty | None = Field(
        None, description="baseModel: name given by --base-model NAME=DIR. Unset means the plain --base-model DIR."
    )
    published: Published | None = Field(None, description="published figures of this run.")


class Grid(Document):
    """Several training configurations with shared defaults."""

    title: NonEmpty = Field(description="title of the table.")
    dataset: GridDataset = Field(default_factory=GridDataset, description="dataset: how it is split.")
    training: TrainingSpec = Field(
        default_factory=TrainingSpec, description="training that the runs share, as spec.training."
    )
    runs: list[GridRun] = Field(min_length=1, description="runs in the order in which they are executed.")


@dataclass(frozen=True)
class BaseModel:
    """A base model's folder and the digest of its content."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Inputs:
    """The inputs of the command line; `base_models` by name, DEFAULT_BASE_MODEL for runs that set none."""

    dataset: Path
    dataset_digest: str
    base_models: Mapping[str, BaseModel]
    code_digest: str
    work: Path
    text_column: str = "comment"
    label_column: str = "toxic"


def read_inputs(options: argparse.Namespace, base_models: Mapping[str, Path]) -> Inputs:
    """The inputs that the options dataset, work, text_column and label_column name, with their digests."""
    return Inputs(
        dataset=options.dataset.resolve(),
        dataset_digest=file_digest(options.dataset),
        base_models={name: BaseModel(folder, folder_digest(folder)) for name, folder in base_models.items()},
        code_digest=code_digest(),
        work=options.work.resolve(),
        text_column=options.text_column,
        label_column=options.label_column,
    )


def read_grid(path: Path) -> Grid:
    """Reads the grid of a YAML file. Raises GridError naming the file and the invalid field."""
    import yaml

    try:
        return Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")), extra="forbid")
    except OSError as error:
        raise GridError("GridUnreadable", f"cannot read {path}: {error.strerror}") from error
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise GridError("InvalidGrid", f"{path}: {error}") from error


def require_base_models(grid: Grid, given: Mapping[str, Path]) -> None:
    """Raises GridError naming the first run whose base model is missing in `given` or is not a folder."""
    for run in grid.runs:
        name = run.base_model or DEFAULT_BASE_MODEL
        if name not in given:
            raise GridError(
                "BaseModelMissing",
                f"run {run.name!r}: its base model is missing; add --base-model {f'{name}=' if name else ''}DIR",
            )
        if not given[name].is_dir():
            raise GridError("BaseModelMissing", f"run {run.name!r}: the base model {given[name]} is not a folder")


def plan_runs(grid: Grid, inputs: Inputs) -> list[TrainingConfig]:
    """One configuration per run, in the grid's order; `model` carries the run's name.

    Raises GridError for a run whose settings do not fit together or that repeats another one.
    """
    require_base_models(grid, {name: model.path for name, model in inputs.base_models.items()})
    configs = [_plan_run(grid, run, inputs) for run in grid.runs]
    _refuse_repetitions(configs)
    return configs


def _plan_run(grid: Grid, run: GridRun, inputs: Inputs) -> TrainingConfig:
    base = inputs.base_models[run.base_model or DEFAULT_BASE_MODEL]
    training = merge_training(grid.training, run)
    config = TrainingConfig(
        model=run.name,
        fingerprint="",
        artifacts=inputs.work,
        dataset_path=inputs.dataset,
        text_column=inputs.text_column,
        label_column=inputs.label_column,
        split=grid.dataset.split,
        base_model_path=base.path,
        training=training.with_normal_form(training.wanted_normal_form),
    )
    result = run_fingerprint(config, inputs.dataset_digest, base.digest, inputs.code_digest)
    return config.model_copy(update={"fingerprint": result})


def merge_training(defaults: TrainingSpec, run: GridRun) -> TrainingSpec:
    """`defaults` overridden by the settings of the run. Raises GridError naming the run and the field."""
    try:
        return TrainingSpec.model_validate(_overlay(_set_fields(defaults), _set_fields(run.training)))
    except ValidationError as error:
        raise GridError("InvalidGrid", f"run {run.name!r}: training: {error}") from error


def _set_fields(document: Document) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _overlay(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return {**below, **above, **both}


def run_fingerprint(config: TrainingConfig, dataset_digest: str, base_model_digest: str, code_digest: str) -> str:
    """Hash of what the run's result depends on; independent of file paths. Defaults are part of the code."""
    parts = {
        "code": code_digest,
        "dataset": [dataset_digest, config.text_column, config.label_column],
        "split": config.split.to_wire(),
        "baseModel": base_model_digest,
        "training": content(config.training, WITHOUT_INFLUENCE),
    }
    return fingerprint(parts)


def _refuse_repetitions(configs: list[TrainingConfig]) -> None:
    names: set[str] = set()
    contents: dict[str, str] = {}
    for config in configs:
        if config.model in names:
            raise GridError("RepeatedRun", f"two runs are called {config.model!r}; rename one")
        if config.fingerprint in contents:
            same = contents[config.fingerprint]
            raise GridError("RepeatedRun", f"runs {same!r} and {config.model!r} are the same; change or drop one")
        names.add(config.model)
        contents[config.fingerprint] = config.model


def file_digest(path: Path) -> str:
    """sha256 of a file. Raises GridError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise GridError("FileUnreadable", f"cannot read {path}: {error.strerror}") from error


def code_digest() -> str:
    """sha256 over the Python files of the packages that a training runs."""
    packages = [
        Path(package.__file__ or "").parent for package in (toxicity_api, toxicity_stage, toxicity_training)
    ]
    files = [(folder, path) for folder in packages for path in sorted(folder.rglob("*.py"))]
    lines = [f"{path.relative_to(folder.parent).as_posix()} {file_digest(path)}" for folder, path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over names and contents of a folder's files except hidden ones. Raises GridError as `file_digest` does."""
    relative = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = [path for path in relative if not any(part.startswith(".") for part in path.parts)]
    lines = [f"{path.as_posix()} {file_digest(folder / path)}" for path in shown]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
