"""The operator's environment."""

from __future__ import annotations

import pytest

from toxicity_operator.settings import Images, OperatorSettings

PARTS = ("TRAINING", "QUANTIZATION", "QUANTIZATION_AUTOAWQ", "SERVING", "LOADTEST")
IMAGES = {f"IMAGE_{part}": f"{part.lower()}:1" for part in PARTS}


def test_defaults() -> None:
    settings = OperatorSettings.from_environment(IMAGES)
    assert settings.images == Images(*(f"{part.lower()}:1" for part in PARTS))
    assert (settings.namespaces, settings.log_level, settings.liveness_port) == ((), "info", 8080)
    assert (settings.resync_seconds, settings.progress_seconds) == (30, 10)


def test_everything_set() -> None:
    extra = {"WATCH_NAMESPACES": "a, b,", "LOG_LEVEL": "debug", "RESYNC_SECONDS": "1.5", "LIVENESS_PORT": "9000"}
    extra |= {"PROGRESS_SECONDS": "0.5"}
    settings = OperatorSettings.from_environment(IMAGES | extra)
    assert settings.namespaces == ("a", "b")
    assert (settings.log_level, settings.resync_seconds, settings.liveness_port) == ("debug", 1.5, 9000)
    assert settings.progress_seconds == 0.5


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
    ],
)
def test_bad_variable_is_named(change: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        OperatorSettings.from_environment(IMAGES | change)
