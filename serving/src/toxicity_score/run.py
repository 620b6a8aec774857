"""One run: read the rows, score them in batches, and write each part when its rows have their answers.

At most OPEN_PARTS parts are in memory. A part that an earlier run wrote is read and skipped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from toxicity_api.base import Document
from toxicity_score.errors import InvalidRunError, ScoreError
from toxicity_score.inputs import Input
from toxicity_score.outputs import JOURNAL, SUMMARY, Output, part_name, part_numbers, write_part
from toxicity_score.parts import Part, Scored, split_parts
from toxicity_score.progress import Counts, Progress
from toxicity_score.rows import Columns, Format, Row, open_rows
from toxicity_score.service import Model, Service

logger = logging.getLogger(__name__)

OPEN_PARTS = 2
"""Parts in memory: one that gets its last answers, and the next one, so that the service always has work."""


class Journal(Document):
    """What all runs with one output must agree on, so that their parts belong together."""

    input: str
    input_sha256: str
    text_column: str
    id_column: str | None
    rows_per_part: int
    output_format: Format
    model: str
    fingerprint: str
    threshold: float


class Summary(Document):
    """What the last run with an output did, in rows. `skipped` rows were already written by earlier ones."""

    skipped: int
    scored: int
    toxic: int
    errors: int
    fingerprint: str
    fingerprint_at_end: str


@dataclass(frozen=True)
class Job:
    """What to score, and where the answers go. `scratch` is an empty folder; `output_format` None means the input's."""

    source: Input
    columns: Columns
    output: Output
    output_format: Format | None
    rows_per_part: int
    threshold: float | None
    scratch: Path


async def run(job: Job, service: Service) -> Counts:
    """Score all rows that are not written yet, and return the counts. Raises ScoreError."""
    model = await service.model()
    with open_rows(job.source.path, job.source.name, job.columns) as (found, rows):
        kind = job.output_format or found
        journal = Journal(
            input=job.source.name,
            input_sha256=job.source.digest,
            text_column=job.columns.text,
            id_column=job.columns.id,
            rows_per_part=job.rows_per_part,
            output_format=kind,
            model=model.name,
            fingerprint=model.fingerprint,
            threshold=model.threshold if job.threshold is None else job.threshold,
        )
        done = _agree(job, journal)
        counts = Counts()
        progress = Progress(counts, lambda: service.limiter.limit)
        try:
            await _Run(job, service, model, kind, done, counts, progress).all_parts(rows)
        finally:
            progress.close()
    after = (await service.model()).fingerprint
    if after != model.fingerprint:
        logger.warning(
            "model_changed before=%s after=%s; score the input again, into another output",
            model.fingerprint,
            after,
        )
    _publish(job, Summary(**asdict(counts), fingerprint=model.fingerprint, fingerprint_at_end=after), SUMMARY)
    logger.info("finished %s", progress.describe())
    return counts


def _agree(job: Job, journal: Journal) -> set[int]:
    """Return the numbers of the parts that are complete, and write the journal of a new output.

    Raises InvalidRunError if the output is that of another run.
    """
    names, written = job.output.names(), job.output.read(JOURNAL)
    parts = part_numbers(names)
    if written is None:
        if parts:
            raise InvalidRunError(f"--output: it has parts and no {JOURNAL}; use an empty folder or prefix")
        _publish(job, journal, JOURNAL)
        return set()
    try:
        before = Journal.model_validate_json(written)
    except ValidationError as error:
        raise InvalidRunError(
            f"--output: {JOURNAL} is no journal of a run; use an empty folder or prefix"
        ) from error
    old, new = before.model_dump(by_alias=True), journal.model_dump(by_alias=True)
    if changed := [f"{key} was {old[key]!r} and is {new[key]!r}" for key in new if old[key] != new[key]]:
        raise InvalidRunError(
            f"--output: it has parts of another run ({'; '.join(changed)}); use an empty folder or prefix"
        )
    logger.info("continuing parts=%d", len(parts))
    return parts


def _publish(job: Job, document: Document, name: str) -> None:
    path = job.scratch / name
    path.write_text(document.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    job.output.publish(path, name)


class _Run:
    def __init__(
        self,
        job: Job,
        service: Service,
        model: Model,
        kind: Format,
        done: set[int],
        counts: Counts,
        progress: Progress,
    ) -> None:
        self._job = job
        self._service = service
        self._model = model
        self._kind = kind
        self._done = done
        self._counts = counts
        self._progress = progress

    async def all_parts(self, rows: Iterator[Row]) -> None:
        """Score the parts in order, a few at a time. The first failure ends the others."""
        parts = split_parts(rows, self._job.rows_per_part)
        places = asyncio.Semaphore(OPEN_PARTS)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await places.acquire()
                    part = await asyncio.to_thread(next, parts, None)
                    if part is None:
                        break
                    if part.number in self._done:
                        self._counts.skipped += len(part.rows)
                        self._progress.add(len(part.rows))
                        places.release()
                        continue
                    task = group.create_task(self._part(part))
                    task.add_done_callback(lambda _: places.release())
        except ExceptionGroup as failed:
            raise _first(failed) from failed

    async def _part(self, part: Part) -> None:
        known = [self._checked(row) for row in part.rows]
        self._count([scored for scored in known if scored.error])
        rows, most = [scored.row for scored in known if not scored.error], self._model.max_texts
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._batch(rows[i : i + most])) for i in range(0, len(rows), most)]
        answered = (scored for task in tasks for scored in task.result())
        await asyncio.to_thread(
            self._write, part, [scored if scored.error else next(answered) for scored in known]
        )

    async def _batch(self, rows: Sequence[Row]) -> list[Scored]:
        answers = await self._service.score([row.text for row in rows])
        scored = [
            Scored(row, answer.score, answer.toxic, answer.error)
            for row, answer in zip(rows, answers, strict=True)
        ]
        self._count(scored)
        return scored

    def _count(self, rows: Sequence[Scored]) -> None:
        self._counts.errors += sum(bool(row.error) for row in rows)
        self._counts.toxic += sum(bool(row.toxic) for row in rows)
        self._counts.scored += sum(row.score is not None for row in rows)
        self._progress.add(len(rows))

    def _checked(self, row: Row) -> Scored:
        most = self._model.max_characters
        too_long = f"the text has {len(row.text)} characters, more than {most}" if len(row.text) > most else ""
        return Scored(row, error=row.problem or too_long)

    def _write(self, part: Part, answers: Sequence[Scored]) -> None:
        name = part_name(part.number, self._kind)
        path = self._job.scratch / name
        write_part(part, answers, self._kind, path)
        self._job.output.publish(path, name)
        path.unlink()


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups: a ScoreError if there is one."""
    own = failed.subgroup(ScoreError)
    error: BaseException = own or failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
