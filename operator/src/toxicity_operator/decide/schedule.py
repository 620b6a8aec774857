"""Which slot of `loadTest.schedule` the load test is to be run for. Pure; the cron fields are in UTC.

The slot is a moment as text. It enters the load test's fingerprint, so a new slot is a new run, and the same slot is
never run twice. A slot that passes while a run is under way waits for its end; of several that passed while nobody
looked, only the latest is run, as a CronJob does after its starting deadline. A schedule that is set or changed looks
ahead: the status remembers since when it is known, so that no moment before counts as missed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from toxicity_api.spec.loadtest import LoadTestSpec
from toxicity_api.status import LoadTestSchedule
from toxicity_operator.errors import InvalidSpec


def due_slot(cron: str | None, since: str, now: str, known: str, is_running: bool) -> str:
    """The slot whose run is due or under way.

    `known` is the slot of the last run, NO_SLOT when there was none, and `is_running` says that this run is not settled
    yet. No moment up to `since` is due (see `looks_from`); `now` is now; both RFC 3339. A schedule that is removed
    starts nothing. Raises InvalidSpec on a bad `cron`.
    """
    if cron is None:
        return known
    latest = _latest(cron, _parse_time(since), _parse_time(now))
    return known if is_running or latest is None else latest


def schedule_in_force(spec: LoadTestSpec, recorded: LoadTestSchedule | None, now: str) -> LoadTestSchedule | None:
    """What the spec's schedule is, with since when: as `recorded`, or from `now` on (RFC 3339) where it is another one.

    None without a schedule, or without a load test: what comes back after that is as one that is set.
    """
    if not spec.enabled or spec.schedule is None:
        return None
    if recorded is not None and recorded.schedule == spec.schedule:
        return recorded
    return LoadTestSchedule(schedule=spec.schedule, since=now)


def counts_from(last_run: str, schedule: LoadTestSchedule | None) -> str:
    """The later of when the last run began, or the resource was made, and when the schedule became known."""
    return last_run if schedule is None else max(last_run, schedule.since, key=_parse_time)


def _latest(cron: str, since: datetime, now: datetime) -> str | None:
    """The last moment of the schedule after `since` and not after `now`; None when there is none."""
    # the walk backwards begins with the moment before its start
    slot = next(_backwards(cron, now.replace(microsecond=0) + timedelta(seconds=1)), None)
    return None if slot is None or slot <= since else slot.isoformat().replace("+00:00", "Z")


def _backwards(cron: str, start: datetime) -> CronSim:
    try:
        return CronSim(cron, start, reverse=True)
    except CronSimError as error:
        message = f"spec.loadTest.schedule: {cron!r} is no cron schedule of five fields: {error}"
        raise InvalidSpec(message) from error


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
