"""AutoAWQ's image is optional: without it, a resource that needs it says so from the start."""

from __future__ import annotations

from dataclasses import replace

from support.builders import SETTINGS, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, drive, message, passes, status

WITHOUT = replace(SETTINGS, images=replace(SETTINGS.images, quantization_autoawq=""))
AUTOAWQ = a_model().with_spec("quantization.backend", "autoawq")
REMEDY = "set images.quantizationAutoawq in this resource or in the operator's chart"


def a_cluster() -> FakeCluster:
    """Before the first pass."""
    return FakeCluster(AUTOAWQ.raw())


def test_remedy_is_named_before_training_ends() -> None:
    cluster = a_cluster()
    passes(cluster, WITHOUT)
    assert conditions(cluster)["Trained"][1] == "Running"
    assert conditions(cluster)["Quantized"] == ("False", "InvalidSpec")
    assert REMEDY in message(cluster, "Quantized")


def test_no_job_is_made_without_an_image_and_one_with_it() -> None:
    cluster = a_cluster()
    passes(cluster, WITHOUT)
    cluster.finish_training()
    passes(cluster, WITHOUT)
    assert conditions(cluster)["Ready"] == ("False", "InvalidSpec")
    assert conditions(cluster)["Stalled"][0] == "True"
    assert REMEDY in message(cluster, "Ready")
    assert [name for name in cluster.names_of("Job") if "quantize" in name] == []
    passes(cluster, SETTINGS)
    (container,) = cluster.job("quantize")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == SETTINGS.images.quantization_autoawq


def test_served_model_does_not_need_the_image_again() -> None:
    cluster = drive(AUTOAWQ)
    before = status(cluster)
    passes(cluster, WITHOUT)
    assert conditions(cluster)["Ready"][0] == "True"
    assert status(cluster)["quantization"] == before["quantization"]
    assert "outdated" not in status(cluster)
