"""The operator's configuration, which `__main__` reads once from the environment."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from toxicity_operator.pod_defaults import PodDefaults, read_pod_defaults

LogLevel = Literal["debug", "info", "warning", "error"]
UpgradePolicy = Literal["NewVersions", "RollOut"]
"""What an upgrade of the operator does to serving models: keep them until their spec changes, or roll them out."""

LOG_LEVELS = ("debug", "info", "warning", "error")
CLASS = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?")
"""A DNS label or an empty string."""


@dataclass(frozen=True)
class Images:
    """The default images of the stages, which a resource can override. An empty `quantization_autoawq` means none."""

    training: str
    quantization: str
    quantization_autoawq: str
    serving: str
    loadtest: str


@dataclass(frozen=True)
class LeaseSettings:
    """The Lease of the leader election. The default times are those of kube-controller-manager."""

    namespace: str
    name: str
    holder: str
    lease_seconds: int = 15
    renew_seconds: int = 10
    retry_seconds: int = 2

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> LeaseSettings | None:
        """Read LEADER_ELECTION, LEASE_NAMESPACE, LEASE_NAME, POD_NAME, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS.

        Return None without leader election. Raises ValueError if a variable is missing or invalid.
        """
        switch = environment.get("LEADER_ELECTION") or "false"
        if switch not in ("true", "false"):
            raise ValueError(f"LEADER_ELECTION must be true or false, not {switch!r}")
        if switch == "false":
            return None
        needed = {name: environment.get(name, "") for name in ("LEASE_NAMESPACE", "LEASE_NAME", "POD_NAME")}
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f"LEADER_ELECTION requires these environment variables: {', '.join(missing)}")
        names = ("lease_seconds", "renew_seconds", "retry_seconds")
        times = {name: int(_positive(environment, name.upper(), getattr(cls, name))) for name in names}
        if not times["lease_seconds"] > times["renew_seconds"] > times["retry_seconds"] > 0:
            raise ValueError(f"LEASE_SECONDS > RENEW_SECONDS > RETRY_SECONDS >= 1 is required, got {times}")
        # a restarted container is another holder, since the previous process may have stopped in the middle of a pass
        holder = f"{needed['POD_NAME']}_{secrets.token_hex(4)}"
        return cls(needed["LEASE_NAMESPACE"], needed["LEASE_NAME"], holder, **times)


@dataclass(frozen=True)
class OperatorSettings:
    """The settings of the operator.

    `operator_class`: the `spec.operatorClass` of the resources to reconcile. `relist_seconds`: interval at which every
    kind is listed again. `unfollowed_seconds`: the liveness probe fails if the watch of a kind did not succeed for this
    long; a working watch succeeds at least every two minutes.
    """

    images: Images
    namespaces: tuple[str, ...] = ()
    resync_seconds: float = 30.0
    progress_seconds: float = 10.0
    liveness_host: str = "0.0.0.0"
    liveness_port: int = 8080
    metrics_port: int = 8081
    log_level: LogLevel = "info"
    operator_class: str = ""
    relist_seconds: float = 600.0
    unfollowed_seconds: float = 300.0
    lease: LeaseSettings | None = None
    upgrades: UpgradePolicy = "NewVersions"
    upgrades_at_once: int = 1
    pod_defaults: PodDefaults = field(default_factory=PodDefaults)
    version: str = "unknown"
    """Version of the operator, recorded in `madeWith`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> OperatorSettings:
        """Read the settings from environment variables.

        These are IMAGE_*, WATCH_NAMESPACES, OPERATOR_CLASS, RESYNC_SECONDS, PROGRESS_SECONDS, RELIST_SECONDS,
        UNFOLLOWED_SECONDS, LIVENESS_PORT, METRICS_PORT, LOG_LEVEL, POD_IP, UPGRADES_POLICY, UPGRADES_AT_ONCE,
        POD_DEFAULTS, OPERATOR_VERSION, and those of LeaseSettings. Raises ValueError, which names the missing or
        invalid variable.
        """
        images = {part: environment.get(f"IMAGE_{part.upper()}", "") for part in Images.__dataclass_fields__}
        optional = {"quantization_autoawq"}
        missing = [f"IMAGE_{part.upper()}" for part, name in images.items() if not name and part not in optional]
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
        operator_class = environment.get("OPERATOR_CLASS", "")
        if not CLASS.fullmatch(operator_class):
            raise ValueError(f"OPERATOR_CLASS must be a DNS label or empty, not {operator_class!r}")
        return cls(
            images=Images(**images),
            namespaces=tuple(filter(None, map(str.strip, environment.get("WATCH_NAMESPACES", "").split(",")))),
            resync_seconds=_positive(environment, "RESYNC_SECONDS", cls.resync_seconds),
            progress_seconds=_positive(environment, "PROGRESS_SECONDS", cls.progress_seconds),
            # kopf listens on one address family: that of the pod's first address, which the kubelet probes
            liveness_host="[::]" if ":" in environment.get("POD_IP", "") else cls.liveness_host,
            liveness_port=int(_positive(environment, "LIVENESS_PORT", cls.liveness_port)),
            metrics_port=int(_positive(environment, "METRICS_PORT", cls.metrics_port)),
            log_level=cast(LogLevel, level),
            upgrades=cast(UpgradePolicy, policy),
            upgrades_at_once=int(_positive(environment, "UPGRADES_AT_ONCE", cls.upgrades_at_once)),
            pod_defaults=read_pod_defaults(environment.get("POD_DEFAULTS", "")),
            version=environment.get("OPERATOR_VERSION") or cls.version,
            operator_class=operator_class,
            relist_seconds=_positive(environment, "RELIST_SECONDS", cls.relist_seconds),
            unfollowed_seconds=_positive(environment, "UNFOLLOWED_SECONDS", cls.unfollowed_seconds),
            lease=LeaseSettings.from_environment(environment),
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
