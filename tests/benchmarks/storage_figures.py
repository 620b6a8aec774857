"""The figures of bench_storage: when a pod reached each milestone, what its log tells, and the table."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from toxicity_cluster.demo_kubectl import DeadlineExceeded, Manifest
from toxicity_operator.names import SERVE


@dataclass(frozen=True)
class Transfer:
    """A line of a container's log about an artifact that was downloaded or uploaded."""

    verb: str
    name: str
    store_bytes: int
    cache_bytes: int
    seconds: float


@dataclass(frozen=True)
class Start:
    """One start of a serving pod: seconds from its creation to each milestone, and what it transferred."""

    seconds: Mapping[str, float]
    transfers: Sequence[Transfer] = ()
    caching_seconds: float = 0.0


def transfers(log: str) -> list[Transfer]:
    """The transfers of whole artifacts that a log tells."""
    pattern = r"(fetched|uploaded) name=(\S+) store_bytes=(\d+)(?: cache_bytes=(\d+))? seconds=([\d.]+)"
    return [
        Transfer(verb, name, int(stored), int(cached or 0), float(seconds))
        for verb, name, stored, cached, seconds in re.findall(pattern, log)
    ]


def caching_seconds(log: str) -> float:
    """How long the container wrote to the cache."""
    return sum(map(float, re.findall(r"cached bytes=\d+ seconds=([\d.]+)", log)))


def _has(kind: str) -> Callable[[Manifest], bool]:
    """Whether the condition of this type is True, as a function of the pod."""
    return lambda pod: any(
        (found["type"], found["status"]) == (kind, "True") for found in pod["status"].get("conditions", [])
    )


def _server_runs(pod: Manifest) -> bool:
    found = pod["status"].get("containerStatuses", [])
    return any(item["name"] == SERVE and "running" in item["state"] for item in found)


MILESTONES: dict[str, Callable[[Manifest], bool]] = {
    "scheduled": _has("PodScheduled"),
    "initialized": _has("Initialized"),
    "server runs": _server_runs,
    "ready": _has("Ready"),
}


def first_seen(events: Iterable[tuple[float, Manifest]]) -> dict[str, float]:
    """Seconds from the first event to each milestone. Reads `events` (time and pod) until all are reached."""
    began: float | None = None
    found: dict[str, float] = {}
    for at, pod in events:
        began = at if began is None else began
        for name, is_reached in MILESTONES.items():
            if name not in found and is_reached(pod):
                found[name] = at - began
        if found.keys() == MILESTONES.keys():
            return found
    raise DeadlineExceeded(f"the pod was not ready in time: {found}")


def spread(values: Sequence[float]) -> str:
    """The median, the lowest and the highest value."""
    digits = 0 if statistics.median(values) >= 100 else 1
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} {low}–{high}"


def rate(found: Sequence[Transfer]) -> float:
    """Megabytes per second of these transfers together; 0 if they took no time."""
    seconds = sum(each.seconds for each in found)
    return sum(each.store_bytes + each.cache_bytes for each in found) / 1e6 / seconds if seconds else 0.0


def table(ways: Mapping[str, Sequence[Start]]) -> str:
    """The figures of each way, in 80 columns: medians, each with the lowest and the highest value."""
    measures: dict[str, Callable[[Start], float]] = {
        f"{name}, s": lambda start, name=name: start.seconds[name]  # type: ignore[misc]
        for name in MILESTONES
    }
    moved: dict[str, Callable[[Start], float]] = {
        "from store, MB": lambda start: sum(each.store_bytes for each in start.transfers) / 1e6,
        "from cache, MB": lambda start: sum(each.cache_bytes for each in start.transfers) / 1e6,
        "fetching, s": lambda start: sum(each.seconds for each in start.transfers),
        "fetching, MB/s": lambda start: rate(start.transfers),
        "filling cache, s": lambda start: start.caching_seconds,
    }
    lines = ["".join([f"{'':<17}", *(f"{name:>16}" for name in ways)])]
    for title, value in (measures | moved).items():
        found = [[value(start) for start in starts] for starts in ways.values()]
        cells = ["-" if title in moved and not any(values) else spread(values) for values in found]
        lines.append("".join([f"{title:<17}", *(f"{cell:>16}" for cell in cells)]))
    return "\n".join(line.rstrip() for line in lines)
