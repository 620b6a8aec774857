"""How much CPU one generator process may use: Python runs on one core, and the pod's limit may be less."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cpu_limit(root: Path = CGROUPS) -> float | None:
    """Cores that the cgroup allows, of version 2 or 1; None without a limit or where it cannot be read."""
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
    """Cores that this process can use: one, or the limit when that is lower."""
    return min(1.0, cpu_limit(root) or 1.0)
