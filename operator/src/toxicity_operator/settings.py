"""The operator's own configuration, read once from the environment in `__main__` and passed on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

LogLevel = Literal["debug", "info", "warning", "error"]
UpgradePolicy = Literal["NewVersions", "RollOut"]
"""What another version of the operator does to what serves: nothing before the model itself changes, or roll it out."""

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Images:
    """The stage images a resource gets unless it names its own."""

    training: str
    quantization: str
    quantization_autoawq: str
    serving: str
    loadtest: str


@dataclass(frozen=True)
class OperatorSettings:
    images: Images
    namespaces: tuple[str, ...] = ()
    resync_seconds: float = 30.0
    progress_seconds: float = 10.0
    liveness_host: str = "0.0.0.0"
    liveness_port: int = 8080
    metrics_port: int = 8081
    log_level: LogLevel = "info"
    upgrades: UpgradePolicy = "NewVersions"
    upgrades_at_once: int = 1
    version: str = "unknown"
    """Of the operator itself, recorded with what it makes."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> OperatorSettings:
        """Reads IMAGE_*, WATCH_NAMESPACES, RESYNC_SECONDS, PROGRESS_SECONDS, LIVENESS_PORT, METRICS_PORT, LOG_LEVEL,
        POD_IP, UPGRADES_POLICY, UPGRADES_AT_ONCE.

        Raises ValueError that names the variable when one is missing or makes no sense.
        """
        images = {part: environment.get(f"IMAGE_{part.upper()}", "") for part in Images.__dataclass_fields__}
        missing = [f"IMAGE_{part.upper()}" for part, reference in images.items() if not reference]
        if missing:
            raise ValueError(f"environment variables must name the stage images: {', '.join(missing)}")
        level = environment.get("LOG_LEVEL") or "info"
        if level not in LOG_LEVELS:
            raise ValueError(f"LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}, not {level!r}")
        policy = environment.get("UPGRADES_POLICY") or cls.upgrades
        if policy not in get_args(UpgradePolicy):
            raise ValueError(
                f"UPGRADES_POLICY must be one of {', '.join(get_args(UpgradePolicy))}, not {policy!r}"
            )
        return cls(
            images=Images(**images),
            namespaces=tuple(filter(None, map(str.strip, environment.get("WATCH_NAMESPACES", "").split(",")))),
            resync_seconds=_positive(environment, "RESYNC_SECONDS", cls.resync_seconds),
            progress_seconds=_positive(environment, "PROGRESS_SECONDS", cls.progress_seconds),
            # kopf listens on one family of addresses: that of the pod's first one, which the kubelet probes
            liveness_host="[::]" if ":" in environment.get("POD_IP", "") else cls.liveness_host,
            liveness_port=int(_positive(environment, "LIVENESS_PORT", cls.liveness_port)),
            metrics_port=int(_positive(environment, "METRICS_PORT", cls.metrics_port)),
            log_level=cast(LogLevel, level),
            upgrades=cast(UpgradePolicy, policy),
            upgrades_at_once=int(_positive(environment, "UPGRADES_AT_ONCE", cls.upgrades_at_once)),
            version=importlib.metadata.version("toxicity-model"),
        )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name} must be a number, not {text!r}") from error
    if value <= 0:
        raise ValueError(f"{name} must be above 0, not {text!r}")
    return value
