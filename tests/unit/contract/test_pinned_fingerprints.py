"""Fingerprints that must never change by themselves: with another one, every model in every cluster is trained anew."""

from __future__ import annotations

import pytest

from support.builders import SETTINGS, ModelBuilder, a_model
from toxicity_api.fingerprint import content, fingerprint
from toxicity_api.spec import Labels, TrainingSpec
from toxicity_operator.chain import build_chain

RUSSIAN = a_model().with_spec("training.labels", {"toxic": "да", "nonToxic": "нет"})
OF_THE_HUB = RUSSIAN.with_spec("baseModel", {"huggingFace": {"repo": "owner/name", "revision": "v1"}})


@pytest.mark.parametrize(
    ("parts", "pinned"),
    [
        ({}, "44136fa355b3"),
        ({"word": "токсично", "ё": 1}, "faab5ce6b3b4"),
        ({"b": [1, 2.5, None, True], "a": {"d": "x", "c": "y"}}, "317731c4c594"),
    ],
)
def test_fingerprint_of_given_parts_is_pinned(parts: dict[str, object], pinned: str) -> None:
    assert fingerprint(parts) == pinned
    assert fingerprint(dict(reversed(parts.items()))) == pinned


@pytest.mark.parametrize(
    ("builder", "pinned"),
    [
        (a_model(), ["2837f44dd0d8", "b64a1c87e1ec", "2b8826482b8f", "793ca797b091", "d72b735e9942"]),
        (RUSSIAN, ["3724144b35ce", "c77827193a80", "18facd0c562f", "8cd04a2d7ed3", "e34f95d3b128"]),
        (OF_THE_HUB, ["f22043972d7f", "7fbaf0ba8201", "4302287f798b", "86ff3a2e2d8a", "1b7a758bc86a"]),
    ],
)
def test_fingerprints_of_a_chain_are_pinned(builder: ModelBuilder, pinned: list[str]) -> None:
    chain = build_chain(builder.build(), SETTINGS)
    stages = (chain.train, chain.quantize, chain.evaluate, chain.serve, chain.loadtest)
    assert [stage.fingerprint for stage in stages if stage] == pinned


@pytest.mark.parametrize(
    ("first", "second"), [("2", "2000m"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), ("2.0", "2")]
)
def test_equal_amounts_have_one_fingerprint(first: str, second: str) -> None:
    one, other = (
        content(
            TrainingSpec.model_validate({"resources": {"limits": {"cpu": amount}, "requests": {"cpu": amount}}})
        )
        for amount in (first, second)
    )
    assert one == other
    assert one["resources"] != {"limits": {"cpu": "7"}, "requests": {"cpu": "7"}}


def test_amounts_are_canonical_only_where_they_are_amounts() -> None:
    """A label that looks like an amount stays a text."""
    labels = Labels.model_validate({"toxic": "2.0", "nonToxic": "2"})
    assert content(labels) == {"toxic": "2.0", "nonToxic": "2"}


def test_excluded_and_default_fields_are_left_out() -> None:
    spec = TrainingSpec.model_validate({"epochs": 2.5, "backoffLimit": 7})
    assert content(spec, {"backoff_limit"}) == {"epochs": 2.5}
    assert content(spec) == {"epochs": 2.5, "backoffLimit": 7}
    assert content(TrainingSpec()) == {}
