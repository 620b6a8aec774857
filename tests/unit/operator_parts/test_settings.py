"""The settings of the operator from its environment variables."""

from __future__ import annotations

import pytest

from toxicity_operator.settings import Images, LeaseSettings, OperatorSettings

PARTS = ("TRAINING", "QUANTIZATION", "QUANTIZATION_AUTOAWQ", "SERVING", "LOADTEST")
IMAGES = {f"IMAGE_{part}": f"{part.lower()}:1" for part in PARTS}


def test_defaults() -> None:
    settings = OperatorSettings.from_environment(IMAGES)
    assert settings.images == Images(*(f"{part.lower()}:1" for part in PARTS))
    assert (settings.namespaces, settings.log_level, settings.liveness_port) == ((), "info", 8080)
    assert (settings.resync_seconds, settings.progress_seconds) == (30, 10)
    assert (settings.relist_seconds, settings.unfollowed_seconds) == (600, 300)
    assert (settings.operator_class, settings.lease) == ("", None)


def test_everything_set() -> None:
    extra = {"WATCH_NAMESPACES": "a, b,", "LOG_LEVEL": "debug", "RESYNC_SECONDS": "1.5", "LIVENESS_PORT": "9000"}
    extra |= {
        "PROGRESS_SECONDS": "0.5",
        "RELIST_SECONDS": "60",
        "UNFOLLOWED_SECONDS": "90",
        "OPERATOR_CLASS": "fast",
    }
    settings = OperatorSettings.from_environment(IMAGES | extra)
    assert settings.namespaces == ("a", "b")
    assert (settings.log_level, settings.resync_seconds, settings.liveness_port) == ("debug", 1.5, 9000)
    assert settings.progress_seconds == 0.5
    assert (settings.relist_seconds, settings.unfollowed_seconds, settings.operator_class) == (60, 90, "fast")


ELECTION = {"LEADER_ELECTION": "true", "LEASE_NAMESPACE": "system", "LEASE_NAME": "lease", "POD_NAME": "pod-7"}
TIMES = {"LEASE_SECONDS": "30", "RENEW_SECONDS": "20", "RETRY_SECONDS": "4"}


def a_lease(environment: dict[str, str]) -> LeaseSettings:
    lease = OperatorSettings.from_environment(IMAGES | environment).lease
    assert lease is not None
    return lease


def test_lease_has_the_times_of_kubernetes_unless_others_are_set() -> None:
    lease = a_lease(ELECTION)
    assert (lease.namespace, lease.name, lease.lease_seconds) == ("system", "lease", 15)
    assert (lease.renew_seconds, lease.retry_seconds) == (10, 2)
    slow = a_lease(ELECTION | TIMES)
    assert (slow.lease_seconds, slow.renew_seconds, slow.retry_seconds) == (30, 20, 4)


def test_container_that_starts_anew_in_its_pod_is_another_holder() -> None:
    first, second = a_lease(ELECTION).holder, a_lease(ELECTION).holder
    assert first != second
    assert first.startswith("pod-7_") and second.startswith("pod-7_")


def test_image_of_autoawq_is_optional() -> None:
    assert (
        OperatorSettings.from_environment(IMAGES | {"IMAGE_QUANTIZATION_AUTOAWQ": ""}).images.quantization
        == (IMAGES["IMAGE_QUANTIZATION"])
    )


@pytest.mark.parametrize(("address", "host"), [("10.42.0.7", "0.0.0.0"), ("fd00::7", "[::]"), ("", "0.0.0.0")])
def test_liveness_is_answered_on_the_family_of_the_address_that_the_kubelet_probes(
    address: str, host: str
) -> None:
    assert OperatorSettings.from_environment(IMAGES | {"POD_IP": address}).liveness_host == host


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"IMAGE_SERVING": ""}, "IMAGE_SERVING"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"RESYNC_SECONDS": "soon"}, "RESYNC_SECONDS"),
        ({"RESYNC_SECONDS": "0"}, "RESYNC_SECONDS"),
        ({"OPERATOR_CLASS": "Fast"}, "OPERATOR_CLASS"),
        ({"OPERATOR_CLASS": "a" * 64}, "OPERATOR_CLASS"),
        ({"LEADER_ELECTION": "yes"}, "LEADER_ELECTION"),
        ({"LEADER_ELECTION": "true", "LEASE_NAME": "lease"}, "LEASE_NAMESPACE, POD_NAME"),
        (ELECTION | {"RENEW_SECONDS": "15"}, "RENEW_SECONDS"),
        (ELECTION | {"RETRY_SECONDS": "0.5"}, "RETRY_SECONDS"),
    ],
)
def test_bad_variable_is_named(change: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        OperatorSettings.from_environment(IMAGES | change)
