"""CPU that one generator process can use: one core, since Python runs on one, or less by the pod's limit."""

from __future__ import annotations

import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SAMPLE_SECONDS = 1.0


def cpu_limit(root: Path = CGROUPS) -> float | None:
    """Return the CPU limit of the cgroup (version 2 or 1), in cores; None without a readable limit."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def usable_cores(root: Path = CGROUPS) -> float:
    """Return the cores that this process can use: one, or the limit if it is lower."""
    return min(1.0, cpu_limit(root) or 1.0)


class CpuMeter:
    """CPU time of this process since the meter was made, as a share of `cores`."""

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self._begin = self._last = (time.perf_counter(), time.process_time())

    def share(self) -> float:
        """Return the share since the begin."""
        return self._since(self._begin)

    def share_per_second(self) -> float | None:
        """Return the share since the last value; None if that is less than a second ago."""
        if time.perf_counter() - self._last[0] < SAMPLE_SECONDS:
            return None
        share, self._last = self._since(self._last), (time.perf_counter(), time.process_time())
        return share

    def _since(self, moment: tuple[float, float]) -> float:
        wall, used = time.perf_counter() - moment[0], time.process_time() - moment[1]
        return used / wall / self._cores if wall else 0.0
