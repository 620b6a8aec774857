"""CPU that one generator process can use: one core, since Python runs on one, or less by the pod's limit."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


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
