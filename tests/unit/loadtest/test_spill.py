"""Records on disk give the same figures, files and report as records in memory, and take no memory."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.loadtest.windows import SimulatedService, a_record
from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.artifacts import write_artifacts
from toxicity_loadtest.figures import bucket_result, failure_summary, generator_saturated, overall
from toxicity_loadtest.records import Outcome, Record, Window, WindowOrder, join
from toxicity_loadtest.spill import NEW_RECORDS, ROW, Records, SpillFile, column
from toxicity_store.artifacts import VolumeStore

RPS, SECONDS = 1000.0, 120.0


def spilled(records: Sequence[Record], file: SpillFile) -> Records:
    found = Records(file)
    found.extend(records)
    return found


def simulated(number: int, name: str, seconds: float = 3.0, rps: float = RPS) -> Window:
    """A window near the capacity of a service, of which some requests fail, some are late and some are omitted."""
    service = SimulatedService(lambda name: 0.011, users=30 if name == "mixed" else 2000, servers=10)
    order = WindowOrder(number=number, name=name, rps=rps, seconds=seconds, arrivals="poisson")
    window = service.offer(order)
    failures = {7: (Outcome.HTTP_ERROR, 503), 8: (Outcome.TIMEOUT, 0), 9: (Outcome.INVALID_ANSWER, 200)}
    records = []
    for record in window.records:
        outcome, code = failures.get(record.slot % 97, (Outcome.OK, 200))
        lag = 1e-4 * (record.slot % 11)
        records.append(record._replace(start=record.start + lag, outcome=outcome, status_code=code))
    began = f"2030-01-01T00:00:{10 * number:02}.250Z"
    return replace(window, records=records, cpu_share=0.5, began_at=began, cpu=[(0.5, 0.4), (1.5, 0.6)])


def files_of(windows: Sequence[Window], folder: Path) -> dict[str, bytes]:
    """Every file of the run's folder, by name."""
    results = [bucket_result(window) for window in windows]
    status = LoadTestStatus(
        fingerprint="f", run_id="1", state="Complete", users=2000, requested_rps=RPS, buckets=results[:-1],
        mixed=results[-1], slo_p95_seconds=0.5,
    )  # fmt: skip
    write_artifacts(folder / "loadtest-f", windows, status, LoadTestSpec(), VolumeStore())
    return {path.name: path.read_bytes() for path in (folder / "loadtest-f").iterdir()}


def test_files_and_figures_are_the_same_as_from_records_in_memory(tmp_path: Path) -> None:
    in_memory = [simulated(1, "1-100"), simulated(2, "101-200"), simulated(3, "mixed")]
    assert in_memory[-1].omitted and len(in_memory[0].records) > 2 * NEW_RECORDS
    file = SpillFile()
    on_disk = [replace(window, records=spilled(window.records, file)) for window in in_memory]
    for ours, theirs in zip(on_disk, in_memory, strict=True):
        assert list(ours.records) == theirs.records
        assert bucket_result(ours) == bucket_result(theirs)
    assert overall(on_disk) == overall(in_memory)
    assert failure_summary(on_disk) == failure_summary(in_memory) != ""
    assert generator_saturated(on_disk) == generator_saturated(in_memory)
    expected = files_of(in_memory, tmp_path / "in memory")
    found = files_of(on_disk, tmp_path / "on disk")
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert found["requests.csv"].count(b"\n") == 1 + sum(len(window.records) for window in in_memory)


def test_records_of_windows_that_are_written_in_turns_stay_apart() -> None:
    file = SpillFile()
    first, second = Records(file), Records(file)
    records = [a_record(slot, start=slot)._replace(slot=slot) for slot in range(3 * NEW_RECORDS)]
    for number, record in enumerate(records):
        (first if (number // 500) % 2 else second).append(record)
    assert [record for number, record in enumerate(records) if (number // 500) % 2] == list(first)
    assert (len(first), len(second)) == (len(records) // 2, len(records) // 2)
    assert column(second, "start").tolist() == [record.start for record in second]
    assert second[NEW_RECORDS] == list(second)[NEW_RECORDS] and second[-1:] == [list(second)[-1]]
    whole = Records(file)
    whole.take([first, second])
    window = join(WindowOrder(number=1, name="x", rps=1.0, seconds=1.0), [], whole)
    assert list(window.records) == records


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_field_survives_exactly(outcome: Outcome) -> None:
    record = Record(3_599_999, 0.1 + 0.2, 1 / 3, 2 / 3, 3600.123456789, outcome, 599)
    assert list(spilled([record] * (NEW_RECORDS + 1), SpillFile())) == [record] * (NEW_RECORDS + 1)


def test_two_minutes_at_1000_requests_per_second_take_no_memory() -> None:
    """In memory they would take about 30 MB."""
    file = SpillFile()
    tracemalloc.start()
    try:
        records = Records(file)
        for slot in range(int(RPS * SECONDS)):
            at = slot / RPS
            records.append(Record(slot, at, at + 1e-7, at + 2e-7, at + 0.05, Outcome.OK, 200))
        gc.collect()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records) == RPS * SECONDS
    assert now < 500_000 and peak < 1_500_000, (now, peak)
    assert column(records, "end").sum() == pytest.approx(SECONDS * RPS * (SECONDS / 2 + 0.05), rel=1e-3)


def test_nothing_is_left_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    records = spilled([a_record()] * NEW_RECORDS, SpillFile())
    assert len(list(records)) == NEW_RECORDS
    assert list(tmp_path.iterdir()) == [], "the file has no name"


def test_full_disk_is_an_error(tmp_path: Path) -> None:
    """The generator reports it as a crash of the user that kept the record."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    records = spilled([a_record()] * (NEW_RECORDS - 1), SpillFile())
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROW.itemsize * 10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            records.append(a_record())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
