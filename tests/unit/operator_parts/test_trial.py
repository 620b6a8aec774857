"""What the load test of a requested version says about a roll-back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.builders import SETTINGS, a_model
from toxicity_api.loadtest_status import Comparison, LoadTestStatus
from toxicity_api.status import LoadTestRecord
from toxicity_operator.chain import build_chain
from toxicity_operator.decide.records import Records
from toxicity_operator.decide.trial import Trial, read_trial
from toxicity_operator.model import Model

OURS, OTHERS = True, False
"""Whether the figures are those of the requested version."""


def a_trial(outcome: str | None, figures: bool | None) -> Trial | None:
    """Of a version whose load test has this record and, unless None, these figures, which say that it is slower."""
    model: Model = (
        a_model().with_spec("loadTest.onRegression", "RollBack").with_spec("loadTest.runId", "r2").build()
    )
    chain = build_chain(model, SETTINGS)
    assert chain.loadtest is not None
    fingerprint = chain.loadtest.fingerprint
    if figures is not None:
        slower = Comparison.model_validate({"regressed": True, "message": "slower"})
        written = LoadTestStatus(
            fingerprint=fingerprint if figures else "other", run_id="r2", state="Complete",
            users=16, requested_rps=10.0, comparison=slower,
        )  # fmt: skip
        model = replace(model, status=model.status.model_copy(update={"load_test": written}))
    record = LoadTestRecord.model_validate({"fingerprint": fingerprint, "outcome": outcome}) if outcome else None
    return read_trial(model, chain, Records(None, None, None, record))


def test_version_is_slower_by_the_figures_of_its_own_successful_load_test() -> None:
    assert a_trial("Succeeded", OURS) == Trial("r2", has_succeeded=True, slower="slower")


@pytest.mark.parametrize(
    ("outcome", "figures"),
    [(None, OURS), ("Running", OURS), ("Failed", OURS), ("Succeeded", None), ("Succeeded", OTHERS), (None, None)],
)
def test_nothing_is_said_without_a_successful_load_test_and_its_figures(
    outcome: str | None, figures: bool | None
) -> None:
    assert a_trial(outcome, figures) == Trial("r2", has_succeeded=False, slower="")
