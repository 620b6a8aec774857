"""Write the run's folder in the artifact volume: all requests, all buckets, two plots, a report and the final status.

Like other stages, the folder gets its name only when it is complete. Two attempts measure different figures, so a
later attempt does not replace the folder of an earlier one. Its folder name has a number appended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from toxicity_api.attempts import open_folder, publish_folder, says
from toxicity_api.loadtest_status import BucketResult, LoadTestStatus
from toxicity_api.spec import LoadTestSpec
from toxicity_loadtest.errors import ArtifactsError
from toxicity_loadtest.figures import COLUMNS, frames
from toxicity_loadtest.html_report import build_report
from toxicity_loadtest.measurement import Observation
from toxicity_loadtest.plots import write_plots
from toxicity_loadtest.records import Window
from toxicity_store.artifacts import ArtifactStore
from toxicity_store.errors import StoreError

REQUESTS, BUCKETS_CSV, BUCKETS_JSON, STATUS = "requests.csv", "buckets.csv", "buckets.json", "status.json"
REPORT = "report.html"
DIGITS = 6


def write_artifacts(
    folder: Path,
    windows: Sequence[Window],
    status: LoadTestStatus,
    spec: LoadTestSpec,
    store: ArtifactStore,
    observed: Sequence[Observation] = (),
) -> LoadTestStatus:
    """Write the folder and return the status that names it. On a volume, a failed attempt's folder is replaced.

    Raises ArtifactsError.
    """
    try:
        work = open_folder(folder, os.getpid())
        _fill(work, windows, status, spec, observed)
        for number in count(2):
            status = status.model_copy(update={"artifacts": folder.name})
            text = json.dumps(status.to_wire(), ensure_ascii=False, indent=1)
            (work / STATUS).write_text(f"{text}\n", encoding="utf-8")
            if publish_folder(work, folder, STATUS, says("state", "Complete")):
                if store.publish(folder):
                    break
                os.rename(folder, work)
            folder = folder.with_name(f"{work.name.partition('.')[0]}-{number}")
    except (OSError, StoreError) as error:
        raise ArtifactsError(f"cannot write the folder {folder}: {error}") from error
    return status


def _fill(
    work: Path,
    windows: Sequence[Window],
    status: LoadTestStatus,
    spec: LoadTestSpec,
    observed: Sequence[Observation],
) -> None:
    import pandas as pd

    with (work / REQUESTS).open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(columns=COLUMNS).to_csv(file, index=False)
        for table in frames(windows):
            table.round(DIGITS).to_csv(file, index=False, header=False)
    results = [*status.buckets, *([status.mixed] if status.mixed else [])]
    rows = [result.model_dump(mode="json", by_alias=True) for result in results]
    columns = [field.alias or name for name, field in BucketResult.model_fields.items()]
    pd.DataFrame(rows, columns=columns).to_csv(work / BUCKETS_CSV, index=False)
    (work / BUCKETS_JSON).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if results:
        _draw(work, results, spec)
    _write_report(work, windows, status, observed)


def _write_report(
    work: Path, windows: Sequence[Window], status: LoadTestStatus, observed: Sequence[Observation]
) -> None:
    """Write report.html. An error of matplotlib must not fail a run whose figures are complete."""
    try:
        (work / REPORT).write_text(build_report(status, windows, observed), encoding="utf-8")
    except (ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise ArtifactsError(f"cannot write the report: {error!r}") from error


def _draw(work: Path, results: Sequence[BucketResult], spec: LoadTestSpec) -> None:
    """Draw the plots. An error of matplotlib must not fail a run whose figures are complete."""
    try:
        write_plots(work, results, spec)
    except (ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise ArtifactsError(f"cannot draw the plots: {error!r}") from error
