"""The API server rejects an object: Ready still follows the pods, and the status can be written."""

from __future__ import annotations

import pytest

from support.builders import NOW, a_model
from support.operator.fake_cluster import FakeCluster
from support.operator.pipeline import conditions, message, run, settle, status, take_steps
from toxicity_api.crd import STRING_LIMIT
from toxicity_api.status import ToxicityModelStatus
from toxicity_api.types import Raw
from toxicity_operator.decide.status import derive_invalid
from toxicity_operator.errors import ClusterError

DENIED = "admission webhook denied the request: "


class Refusing(FakeCluster):
    """A cluster in which admission rejects objects whose name contains `part`, with a long message."""

    part, words = "", DENIED

    def create(self, body: Raw) -> None:
        if self.part and self.part in body["metadata"]["name"]:
            raise ClusterError(self.words, 403)
        super().create(body)


def served(part: str, words: str = DENIED) -> Refusing:
    """A serving model in a cluster that then starts to reject objects."""
    cluster = Refusing(a_model().raw())
    take_steps(cluster, 3)
    cluster.part, cluster.words = part, words
    cluster.roll_out()
    run(cluster)
    return cluster


def test_load_test_that_is_refused_does_not_deny_what_serves() -> None:
    cluster = served("-loadtest-")
    assert conditions(cluster)["Available"] == ("True", "ReplicasReady")
    assert conditions(cluster)["Ready"][0] == "True"
    assert DENIED in message(cluster, "Ready")
    cluster.part = ""
    settle(cluster)
    assert DENIED not in message(cluster, "Ready")


def test_refused_stage_is_told_as_such() -> None:
    cluster = Refusing(a_model().raw())
    cluster.part = "-train-"
    run(cluster)
    assert conditions(cluster)["Ready"] == ("False", "ApplyFailed")
    assert DENIED in message(cluster, "Ready")


@pytest.mark.parametrize("part", ["-loadtest-", "-train-"])
def test_words_of_any_length_fit_the_status(part: str) -> None:
    cluster = served(part, DENIED + "очень длинно " * 2000)
    if part == "-train-":
        cluster.change_spec(a_model().with_spec("training.epochs", 2.0).spec)
        run(cluster)
    told = [condition["message"] for condition in status(cluster)["conditions"]]
    assert max(map(len, told)) == STRING_LIMIT
    assert any(DENIED in text for text in told)


@pytest.mark.parametrize("length", [STRING_LIMIT - 1, STRING_LIMIT, STRING_LIMIT + 1])
def test_only_words_beyond_the_limit_are_cut(length: int) -> None:
    words = "x" * length
    found = derive_invalid(a_model().build().identity, ToxicityModelStatus(), words, NOW).conditions
    (told,) = [condition.message for condition in found if condition.type == "Ready"]
    assert told == (words if length <= STRING_LIMIT else words[: STRING_LIMIT - 1] + "…")
