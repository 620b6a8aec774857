"""Fingerprints that must never change by themselves: with another one, every model in every cluster is trained anew."""

from __future__ import annotations

import pytest

from support.builders import SETTINGS, ModelBuilder, a_model
from toxicity_api.fingerprint import content, fingerprint
from toxicity_api.spec import Labels, TrainingSpec, training
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
        (a_model(), ["8a25dafa4859", "88f6a4a56311", "dccf65c85b4b", "cf717bfda9e2", "1e4ed8fbbc5c"]),
        (RUSSIAN, ["f9446f61fa62", "1c5fd2236028", "4b02977f579c", "9498048d1cb6", "009f60aab62f"]),
        (OF_THE_HUB, ["54ce9c2961ba", "747e48511604", "507bce81136c", "271a6d4ad404", "5a73827844d1"]),
    ],
)
def test_fingerprints_of_a_chain_are_pinned(builder: ModelBuilder, pinned: list[str]) -> None:
    chain = build_chain(builder.build(), SETTINGS)
    stages = (chain.train, chain.quantize, chain.evaluate, chain.serve, chain.loadtest)
    assert [stage.fingerprint for stage in stages if stage] == pinned


def test_fingerprint_of_a_training_depends_on_the_version_of_the_normal_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that is trained on texts in another form is another model."""
    found = set()
    for version in (1, 2, 3):
        monkeypatch.setattr(training, "NORMAL_FORM_VERSION", version)
        chain = build_chain(a_model().build(), SETTINGS)
        assert chain.train.normal_form == version
        found.add(chain.train.fingerprint)
    found.add(build_chain(a_model().with_spec("training.normalForm", 0).build(), SETTINGS).train.fingerprint)
    assert len(found) == 4


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
