"""Determines the slot of `loadTest.schedule` that is due. Pure. Cron fields are in UTC.

A slot is a scheduled time as RFC 3339 text. It enters the load test's fingerprint, so a new slot is a new run, and no
slot runs twice. A slot that becomes due during a run waits for the end of that run. If several slots were missed, only
the latest runs. A new or changed schedule applies to future times only: the status records when it was first seen.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from toxicity_api.spec.loadtest import LoadTestSpec
from toxicity_api.status import LoadTestSchedule
from toxicity_operator.errors import InvalidSpec


def due_slot(cron: str | None, since: str, now: str, known: str, is_running: bool) -> str:
    """The slot whose run is due or in progress.

    `known` is the slot of the last run, or NO_SLOT if there was none. `is_running` says whether that run is in
    progress. Only times after `since` are due (see `counts_from`). `since` and `now` are RFC 3339. Without a schedule
    the known slot is returned. Raises InvalidSpec if `cron` is invalid.
    """
    if cron is None:
        return known
    latest = _latest(cron, _parse_time(since), _parse_time(now))
    return known if is_running or latest is None else latest


def schedule_in_force(spec: LoadTestSpec, recorded: LoadTestSchedule | None, now: str) -> LoadTestSchedule | None:
    """The spec's schedule and the time it was first seen: as `recorded`, or `now` (RFC 3339) if the schedule changed.

    None if the spec has no schedule or disables the load test. A schedule that is set again counts as new.
    """
    if not spec.enabled or spec.schedule is None:
        return None
    if recorded is not None and recorded.schedule == spec.schedule:
        return recorded
    return LoadTestSchedule(schedule=spec.schedule, since=now)


def counts_from(last_run: str, schedule: LoadTestSchedule | None) -> str:
    """The time after which slots count: when the last run started or when the schedule was first seen, if later."""
    return last_run if schedule is None else max(last_run, schedule.since, key=_parse_time)


def _latest(cron: str, since: datetime, now: datetime) -> str | None:
    """The latest scheduled time after `since` and not after `now`; None if there is none."""
    # the reverse iteration starts before its start time, hence the extra second
    slot = next(_backwards(cron, now.replace(microsecond=0) + timedelta(seconds=1)), None)
    return None if slot is None or slot <= since else slot.isoformat().replace("+00:00", "Z")


def _backwards(cron: str, start: datetime) -> CronSim:
    try:
        return CronSim(cron, start, reverse=True)
    except CronSimError as error:
        message = f"spec.loadTest.schedule: {cron!r} is not a cron schedule with five fields: {error}"
        raise InvalidSpec(message) from error


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
