from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from support.loadtest.windows import a_record, a_result, a_window
from toxicity_api.buckets import length_buckets
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.artifacts import write_artifacts
from toxicity_loadtest.errors import ArtifactsError
from toxicity_loadtest.figures import bucket_result
from toxicity_loadtest.plots import latency_plot, rate_plot, write_plots
from toxicity_loadtest.records import Outcome
from toxicity_store.artifacts import VolumeStore

WINDOWS = [
    a_window(a_record(0.1), a_record(0.3, start=2.0, waited=1.0, lag=0.25), omitted=[9.0]),
    a_window(a_record(outcome=Outcome.HTTP_ERROR, status_code=503), name="101-200"),
]
FILES = ["buckets.csv", "buckets.json", "p95.png", "report.html", "requests.csv", "rps.png", "status.json"]


def a_status() -> LoadTestStatus:
    results = [bucket_result(window) for window in WINDOWS]
    return LoadTestStatus(
        fingerprint="f", run_id="1", state="Complete", users=16, requested_rps=10.0, buckets=results
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_folder_has_every_request_and_every_bucket(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "loadtest-f"
    write_artifacts(folder, WINDOWS, a_status(), LoadTestSpec(), VolumeStore())
    assert sorted(path.name for path in folder.iterdir()) == FILES
    requests = read(folder / "requests.csv")
    assert [(row["bucket"], row["outcome"], row["status_code"]) for row in requests] == [
        ("1-100", "ok", "200"),
        ("1-100", "ok", "200"),
        ("101-200", "http error", "503"),
    ]
    late = {key: float(requests[1][key]) for key in ("scheduled_start", "intended_start", "start", "end")}
    assert late == {"scheduled_start": 0.75, "intended_start": 1.75, "start": 2.0, "end": 2.3}
    assert (requests[1]["seconds"], requests[1]["corrected_seconds"], requests[1]["lag_seconds"]) == (
        "0.3",
        "1.55",
        "0.25",
    )
    buckets = json.loads((folder / "buckets.json").read_text(encoding="utf-8"))
    assert [(b["name"], b["requests"], b["omitted"]) for b in buckets] == [("1-100", 2, 1), ("101-200", 1, 0)]
    rows = read(folder / "buckets.csv")
    assert [row["p95CorrectedSeconds"] for row in rows] == [str(buckets[0]["p95CorrectedSeconds"]), ""]
    status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    assert status == a_status().to_wire() | {"artifacts": "loadtest-f"}


def requests_of(folder: Path) -> int:
    return len(read(folder / "requests.csv"))


def test_folder_replaces_that_of_an_attempt_that_failed_and_leaves_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "loadtest-f"
    failed = a_status().model_copy(update={"state": "Failed"})
    write_artifacts(folder, WINDOWS[:1], failed, LoadTestSpec(), VolumeStore())
    assert requests_of(folder) == 2
    assert write_artifacts(folder, WINDOWS, a_status(), LoadTestSpec(), VolumeStore()).artifacts == "loadtest-f"
    assert [path.name for path in tmp_path.iterdir()] == ["loadtest-f"]
    assert requests_of(folder) == 3


def test_complete_figures_of_another_attempt_stay_and_these_are_beside_them(tmp_path: Path) -> None:
    folder, beside = tmp_path / "loadtest-f", tmp_path / "loadtest-f-2"
    write_artifacts(folder, WINDOWS[:1], a_status(), LoadTestSpec(), VolumeStore())
    assert write_artifacts(folder, WINDOWS, a_status(), LoadTestSpec(), VolumeStore()).artifacts == "loadtest-f-2"
    assert (
        write_artifacts(folder, WINDOWS[1:], a_status(), LoadTestSpec(), VolumeStore()).artifacts == "loadtest-f-3"
    )
    assert (requests_of(folder), requests_of(beside), requests_of(tmp_path / "loadtest-f-3")) == (2, 3, 1)
    assert json.loads((beside / "status.json").read_text(encoding="utf-8"))["artifacts"] == "loadtest-f-2"
    assert len(list(tmp_path.iterdir())) == 3


def test_folder_that_another_attempt_is_writing_stays(tmp_path: Path) -> None:
    other = tmp_path / "loadtest-f.tmp-ru-loadtest-1a2b-x7k2p-1-abcd1234"
    other.mkdir()
    (other / "requests.csv").touch()
    write_artifacts(tmp_path / "loadtest-f", WINDOWS, a_status(), LoadTestSpec(), VolumeStore())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loadtest-f", other.name]


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ArtifactsError, match=r"cannot write the folder .*file/loadtest-f: "):
        write_artifacts(tmp_path / "file" / "loadtest-f", WINDOWS, a_status(), LoadTestSpec(), VolumeStore())


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("Image size of 90000x660 pixels is too large"),
        MemoryError(),
        OverflowError(),
        RuntimeError("font"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_plot_that_cannot_be_drawn_is_a_fault_of_the_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    from matplotlib.figure import Figure

    def broken(*_arguments: object, **_named: object) -> None:
        raise fault

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(ArtifactsError, match="cannot draw the plots"):
        write_artifacts(tmp_path / "loadtest-f", WINDOWS, a_status(), LoadTestSpec(), VolumeStore())


def test_most_buckets_that_a_spec_may_ask_for_can_be_drawn(tmp_path: Path) -> None:
    spec = LoadTestSpec(bucket_step=100, max_length=20_000)
    names = [*(bucket.name for bucket in length_buckets(spec.bucket_step, spec.max_length)), "mixed"]
    assert len(names) == 201
    write_plots(tmp_path, [a_result(9.9, 0.2, 0.3).model_copy(update={"name": name}) for name in names], spec)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p95.png", "rps.png"]


def test_run_that_measured_no_bucket_has_no_plots(tmp_path: Path) -> None:
    status = a_status().model_copy(update={"buckets": []})
    write_artifacts(tmp_path / "loadtest-f", WINDOWS, status, LoadTestSpec(), VolumeStore())
    names = {path.name for path in (tmp_path / "loadtest-f").iterdir()}
    assert names == set(FILES) - {"p95.png", "rps.png"}


def test_plots_draw_what_was_measured_and_asked() -> None:
    mixed = a_result(8.0, 0.4, 0.4).model_copy(update={"name": "mixed"})
    results = [a_result(9.9, 0.2, 0.3), a_result(5.0, None, None, asked=20.0), mixed]
    (latency,) = latency_plot(results, LoadTestSpec()).axes
    corrected, mixed_corrected, as_served, mixed_served, objective = latency.lines
    assert [str(value) for value in corrected.get_ydata()] == ["0.3", "nan"]
    assert [str(value) for value in as_served.get_ydata()] == ["0.2", "nan"]
    assert [list(line.get_xdata()) for line in (as_served, mixed_corrected, mixed_served)] == [[0, 1], [2], [2]]
    assert set(objective.get_ydata()) == {1.0}
    (rate,) = rate_plot(results, LoadTestSpec()).axes
    assert [bar.get_height() for bar in rate.patches] == [9.9, 5.0, 8.0]
    assert list(rate.lines[0].get_ydata()) == [10.0, 20.0, 10.0]
