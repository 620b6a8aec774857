"""A grid of experiments: the runs it plans, executes, skips and refuses, and the table it prints."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import metrics
from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, StageResult, TrainingResult
from toxicity_api.stage_config import TrainingConfig
from toxicity_stage.artifacts import open_work_folder, publish, read_result
from toxicity_training.experiments.grid import (
    DEFAULT_BASE_MODEL,
    BaseModel,
    Grid,
    GridError,
    Inputs,
    code_digest,
    file_digest,
    folder_digest,
    plan_runs,
    read_grid,
)
from toxicity_training.experiments.run import conclude, main
from toxicity_training.experiments.table import WIDTH, ExperimentsReport, RunOutcome, render_table

CONFIGS = Path(__file__).parents[3] / "training-job/src/toxicity_training/configs"
GRID: dict[str, Any] = {
    "title": "Two runs",
    "dataset": {"split": {"test": 0.2}},
    "training": {"gpus": 0, "maxSamples": 64, "lora": {"r": 16, "alpha": 32}},
    "runs": [
        {"name": "small", "training": {"lora": {"r": 4}}},
        {"name": "large", "training": {"maxSamples": None}, "published": {"f1": 0.9, "recall": 0.8}},
    ],
}


def inputs(**changes: Any) -> Inputs:
    values: dict[str, Any] = {
        "dataset": Path("/d.csv"),
        "dataset_digest": "d",
        "base_models": {DEFAULT_BASE_MODEL: BaseModel(Path(__file__).parent, "b")},
        "code_digest": "c",
        "work": Path("/w"),
    }
    return Inputs(**(values | changes))


def grid(**changes: Any) -> Grid:
    return Grid.model_validate(GRID | changes)


def test_plan_lays_a_run_s_settings_over_the_shared_ones() -> None:
    small, large = plan_runs(grid(), inputs())
    assert (small.model, large.model) == ("small", "large")
    assert (small.training.lora.r, small.training.lora.alpha, small.training.max_samples) == (4, 32, 64)
    assert (large.training.lora.r, large.training.lora.alpha, large.training.max_samples) == (16, 32, None)
    assert (small.split.test, small.split.validation) == (0.2, 0.1)
    assert small.output_dir == Path(f"/w/train-{small.fingerprint}")


def fingerprints(plan: list[TrainingConfig]) -> list[str]:
    return [config.fingerprint for config in plan]


def test_fingerprint_follows_the_content_and_nothing_else() -> None:
    before = fingerprints(plan_runs(grid(), inputs()))
    assert len(set(before)) == 2
    renamed = [{**run, "name": f"run {run['name']}"} for run in GRID["runs"]]
    moved = inputs(dataset=Path("/elsewhere.csv"), work=Path("/v"))
    elsewhere = GRID["training"] | {"checkpointSteps": 7, "backoffLimit": 0, "epochs": 1}
    assert fingerprints(plan_runs(grid(runs=renamed, training=elsewhere), moved)) == before
    base = {DEFAULT_BASE_MODEL: BaseModel(Path(__file__).parent, "other")}
    for changed in (
        plan_runs(grid(), inputs(dataset_digest="other")),
        plan_runs(grid(), inputs(label_column="other")),
        plan_runs(grid(), inputs(code_digest="other")),
        plan_runs(grid(), inputs(base_models=base)),
        plan_runs(grid(dataset={"split": {"seed": 1}}), inputs()),
        plan_runs(grid(training=GRID["training"] | {"learningRate": 0.1}), inputs()),
    ):
        assert not set(fingerprints(changed)) & set(before)


def test_digests_follow_content_and_leave_out_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    before = folder_digest(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/b").write_text("y")
    assert folder_digest(tmp_path) == before
    (tmp_path / "a").write_text("z")
    assert folder_digest(tmp_path) != before
    with pytest.raises(GridError, match="cannot read"):
        file_digest(tmp_path / "missing")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([{"name": "a"}, {"name": "a", "training": {"seed": 1}}], "two runs are called 'a'"),
        ([{"name": "a"}, {"name": "b", "training": {"gpus": 0}}], "'a' and 'b' are the same"),
        ([{"name": "a", "baseModel": "t-lite"}], "run 'a': .*--base-model t-lite=DIR"),
    ],
)
def test_plan_refuses_what_cannot_be_meant(runs: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(GridError, match=message):
        plan_runs(grid(runs=runs), inputs())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"titel": "x"}, "titel"),
        ({"training": {"learningRat": 1}}, "training.learningRat"),
        ({"runs": [{"name": "a", "training": {"lora": {"rank": 1}}}]}, "runs.0.training.lora.rank"),
        ({"runs": [{"name": "a", "training": {"epochs": -1}}]}, "runs.0.training.epochs"),
        ({"runs": [{"name": "a|b"}]}, "runs.0.name"),
        ({"runs": [{"name": "a", "published": {"f1": 87}}]}, "runs.0.published.f1"),
        ({"runs": []}, "runs"),
    ],
)
def test_a_wrong_field_of_the_file_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(yaml.safe_dump(GRID | change), encoding="utf-8")
    with pytest.raises(GridError) as caught:
        read_grid(path)
    assert field in str(caught.value)
    assert "g.yaml" in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("missing.yaml", None), ("bad.yaml", "a: [")])
def test_an_unreadable_grid_is_refused(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(GridError, match=name):
        read_grid(tmp_path / name)


@pytest.mark.parametrize(("name", "gpus"), [("cpu-steps", 0), ("gpu-original", 1)])
def test_the_grids_we_ship_are_five_different_runs(name: str, gpus: int) -> None:
    shipped = read_grid(CONFIGS / f"{name}.yaml")
    names = {run.base_model or DEFAULT_BASE_MODEL for run in shipped.runs}
    models = {base: BaseModel(Path(__file__).parent, base) for base in names}
    plan = plan_runs(shipped, inputs(base_models=models))
    assert len(plan) == 5
    assert {config.training.gpus for config in plan} == {gpus}
    assert {config.training.loads_4bit for config in plan} == {gpus > 0}
    assert [config.training.lora.r for config in plan] == [4, 16, 16, 16, 16]
    assert [config.training.lora.bias for config in plan] == ["none", "all", "all", "all", "all"]
    assert {config.training.lora.init_weights for config in plan} == {"gaussian"}


def succeeded(fingerprint: str, f1: float, parameters: int | None = None) -> StageResult:
    training = TrainingResult(
        metrics=metrics(f1),
        train_samples=480,
        loss=0.3,
        duration_seconds=150.0,
        trainable_parameters=parameters,
    )
    return StageResult(stage="train", fingerprint=fingerprint, outcome="succeeded", training=training)


def report(results: list[StageResult]) -> ExperimentsReport:
    runs = grid(runs=[*GRID["runs"], {"name": "wide " * 5, "training": {"seed": 3}}]).runs
    outcomes = [
        RunOutcome(
            name=run.name,
            fingerprint="f",
            base_model="m",
            training=run.training,
            published=run.published,
            result=result,
        )
        for run, result in zip(runs, results, strict=True)
    ]
    return ExperimentsReport(title="Two runs", runs=outcomes)


FAILED = StageResult(stage="train", fingerprint="f", outcome="failed", reason="Killed", message="no\nmemory " * 20)


def test_table_lists_the_best_first_the_published_below_and_the_failed_last() -> None:
    table = render_table(report([succeeded("a", 0.81), succeeded("b", 0.92, 3_797_000), FAILED]))
    lines = table.splitlines()
    assert lines[0] == "# Two runs"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["run", "F1", "P", "R", "mF1", "AUC", "min", "params", "rows"]
    assert cells[2:] == [
        ["large", "0.920", "0.880", "0.920", "0.910", "0.960", "2.5", "3.80M", "480"],
        ["(published)", "0.900", "–", "0.800", "", "", "", "", ""],
        ["small", "0.810", "0.880", "0.920", "0.800", "0.960", "2.5", "–", "480"],
    ]
    assert "Test rows: 100." in table
    assert table.index("Failed:\n- wide") > table.index("small")
    assert "Killed: no memory" in table


def test_table_fits_its_width_at_its_widest() -> None:
    huge = succeeded("a", 1.0, 999_990_000)
    assert huge.training is not None
    wide = huge.training.model_copy(update={"duration_seconds": 599_000.0, "train_samples": 1_000_000})
    table = render_table(report([FAILED, huge, huge.model_copy(update={"training": wide})]))
    assert max(map(len, table.splitlines())) <= WIDTH


def test_table_of_failures_alone_has_no_figures() -> None:
    table = render_table(report([FAILED, FAILED, FAILED]))
    assert "|" not in table
    assert table.count("- ") == 3


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (-signal.SIGKILL, "Killed", "memory ran out"),
        (-signal.SIGSEGV, "Killed", "SIGSEGV"),
        (0, "NoResult", "exit code 0"),
        (3, "NoResult", "exit code 3"),
    ],
)
def test_a_child_that_leaves_no_result_has_failed(tmp_path: Path, code: int, reason: str, message: str) -> None:
    config = plan_runs(grid(), inputs(work=tmp_path))[0]
    result = conclude(config, code, None)
    assert (result.outcome, result.reason, result.fingerprint) == ("failed", reason, config.fingerprint)
    assert message in result.message


def test_success_needs_exit_code_and_published_folder(tmp_path: Path) -> None:
    config = plan_runs(grid(), inputs(work=tmp_path))[0]
    done = succeeded(config.fingerprint, 0.8)
    assert conclude(config, 0, done).outcome == "failed"
    publish(open_work_folder(config.output_dir), config.output_dir, done)
    assert conclude(config, 0, done) == done
    assert conclude(config, 1, done).reason == "NoResult"
    assert conclude(config, 1, FAILED) == FAILED


def prepare(folder: Path) -> list[str]:
    """The command line of a grid with an invalid base model and a data set without the label column."""
    (folder / "g.yaml").write_text(yaml.safe_dump(GRID), encoding="utf-8")
    (folder / "c.csv").write_text("comment,label\nпривет,0\n", encoding="utf-8")
    (folder / "base").mkdir()
    (folder / "base/config.json").write_text("{}")
    given = ["--dataset", folder / "c.csv", "--base-model", folder / "base", "--work", folder / "work"]
    return [str(folder / "g.yaml"), *map(str, given)]


def test_one_run_is_done_already_the_other_fails_and_both_are_in_the_report(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = prepare(tmp_path)
    base = {DEFAULT_BASE_MODEL: BaseModel(tmp_path / "base", folder_digest(tmp_path / "base"))}
    given = inputs(
        base_models=base,
        code_digest=code_digest(),
        dataset_digest=file_digest(tmp_path / "c.csv"),
        work=tmp_path / "work",
    )
    small, large = plan_runs(grid(), given)
    publish(open_work_folder(small.output_dir), small.output_dir, succeeded(small.fingerprint, 0.81))

    assert main(command) == EXIT_FAILED
    output = capfd.readouterr().out
    assert "run 1 of 2, small: " in output
    assert "is already published" in output
    assert "run 2 of 2, large: starting" in output
    assert "result: " in output  # the child's own line
    table = (tmp_path / "work/g.md").read_text(encoding="utf-8")
    assert output.endswith(f"\n{table}")
    assert "- large: MissingColumn: dataset.labelColumn" in table
    document = ExperimentsReport.model_validate_json((tmp_path / "work/g.json").read_bytes())
    assert [run.result.outcome for run in document.runs] == ["succeeded", "failed"]
    assert [run.fingerprint for run in document.runs] == [small.fingerprint, large.fingerprint]
    kept = read_result(large.output_dir)
    assert kept is not None
    assert kept.reason == "MissingColumn"


def test_all_done_is_success_and_the_output_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    command = prepare(tmp_path)
    base = {DEFAULT_BASE_MODEL: BaseModel(tmp_path / "base", folder_digest(tmp_path / "base"))}
    given = inputs(
        base_models=base,
        code_digest=code_digest(),
        dataset_digest=file_digest(tmp_path / "c.csv"),
        work=tmp_path / "work",
    )
    for config in plan_runs(grid(), given):
        publish(open_work_folder(config.output_dir), config.output_dir, succeeded(config.fingerprint, 0.8))
    assert main([*command, "--output", str(tmp_path / "out/table.md")]) == 0
    assert len(json.loads((tmp_path / "out/table.json").read_text(encoding="utf-8"))["runs"]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--base-model", "t-lite={0}/base"], "run 'small': its base model is missing"),
        (["--base-model", "{0}/nowhere"], "nowhere is not a folder"),
        (["--base-model", "{0}/base", "--dataset", "{0}/none.csv"], "cannot read"),
    ],
)
def test_what_was_not_given_is_refused_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    path, dataset, where, _, _, work, folder = prepare(tmp_path)
    command = [path, dataset, where, work, folder, *(part.format(tmp_path) for part in change)]
    assert main(command) == EXIT_INVALID_INPUT
    assert message in capfd.readouterr().err
    assert not (tmp_path / "work").exists()
