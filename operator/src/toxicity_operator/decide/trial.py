"""Reads what the load test found about the version that the spec requests, with `onRegression: RollBack`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from toxicity_operator.chain import Chain
from toxicity_operator.decide.records import Records, succeeded
from toxicity_operator.model import Model


@dataclass(frozen=True)
class Trial:
    """The load test of the requested version. `run`: its loadTest.runId. `slower`: the figures that became worse."""

    run: str
    has_succeeded: bool = False
    slower: str = ""

    @property
    def has_accepted(self) -> bool:
        """Whether the load test has succeeded without a regression."""
        return self.has_succeeded and not self.slower


def read_trial(model: Model, chain: Chain, records: Records) -> Trial | None:
    """The load test that decides about a roll-back; None if a regression is only reported."""
    spec, figures = model.spec.load_test, model.status.load_test
    if chain.loadtest is None or spec.on_regression != "RollBack":
        return None
    if not succeeded(records.load_test) or figures is None or figures.fingerprint != chain.loadtest.fingerprint:
        return Trial(spec.run_id)
    found = figures.comparison
    return Trial(spec.run_id, True, found.message if found and found.regressed else "")
