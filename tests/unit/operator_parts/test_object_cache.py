"""The cache never returns to an older version and loses no object, in any order of updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxicity_operator import names
from toxicity_operator.kube.cached_cluster import CachedCluster
from toxicity_operator.kube.client import KubernetesCluster
from toxicity_operator.kube.object_cache import ObjectCache

KEY = ("default", "ru-toxicity")


def child(version: int, name: str = "a", kind: str = "Job", model: str = KEY[1]) -> dict[str, Any]:
    """An object with a resourceVersion, which its `spec` repeats."""
    metadata = {"name": name, "namespace": KEY[0], "resourceVersion": str(version)}
    metadata_with_label: dict[str, Any] = {**metadata, "labels": {names.MODEL_LABEL: model}}
    return {"kind": kind, "metadata": metadata_with_label, "spec": {"version": version}}


def versions(cache: ObjectCache, key: tuple[str, str] = KEY) -> list[int]:
    return [item["spec"]["version"] for item in cache.children(key)]


def test_older_news_changes_nothing() -> None:
    cache = ObjectCache()
    assert cache.observe(child(5)) == {KEY}
    assert cache.observe(child(4)) == set()
    assert cache.observe(child(5)) == set()
    assert versions(cache) == [5]


def test_own_write_is_seen_at_once_and_its_echo_is_no_news() -> None:
    cache = ObjectCache()
    cache.wrote(child(7))
    assert versions(cache) == [7]
    assert cache.observe(child(7)) == set()


def test_own_write_that_was_deleted_meanwhile_does_not_come_back() -> None:
    cache = ObjectCache()
    cache.observe(child(5))
    assert cache.observe(child(8), gone=True) == {KEY}
    cache.wrote(child(7))
    assert versions(cache) == []


def test_late_deletion_of_an_earlier_object_does_not_take_the_later_one() -> None:
    cache = ObjectCache()
    cache.wrote(child(9))
    assert cache.observe(child(8), gone=True) == set()
    assert versions(cache) == [9]


def test_list_after_a_gap_tells_what_is_gone_but_keeps_what_was_written_after_it() -> None:
    cache = ObjectCache()
    cache.observe(child(3, "lost"))
    cache.wrote(child(9, "new"))
    assert cache.replace("Job", None, [child(4, "kept")], 6) == {KEY}
    assert sorted(versions(cache)) == [4, 9]


def test_list_of_one_kind_or_namespace_says_nothing_of_others() -> None:
    cache = ObjectCache()
    cache.observe(child(1, kind="Service"))
    cache.observe(child(2))
    assert cache.replace("Job", "elsewhere", [], 9) == set()
    assert cache.replace("Pod", None, [], 9) == set()
    assert sorted(versions(cache)) == [1, 2]


def test_child_whose_label_names_another_resource_moves_there() -> None:
    cache = ObjectCache()
    cache.observe(child(1))
    assert cache.observe(child(2, model="other")) == {KEY, ("default", "other")}
    assert (versions(cache), versions(cache, ("default", "other"))) == ([], [2])


def test_pods_come_last() -> None:
    cache = ObjectCache()
    for version, kind in enumerate(("Pod", "Service", "Job"), start=1):
        cache.observe(child(version, kind=kind))
    assert [item["kind"] for item in cache.children(KEY)][-1] == "Pod"


@given(st.permutations(range(1, 7)), st.integers(0, 6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_any_order_of_answers_and_events_ends_with_the_newest(order: list[int], end: int, own: list[bool]) -> None:
    """Six versions of one object: all arrive as events, and some also as responses to a write."""
    cache = ObjectCache()
    for version in order:
        if own[version - 1]:
            cache.wrote(child(version))
    for version in range(1, 7):
        cache.observe(child(version))
        if version == end:
            cache.wrote(child(version))
    if end:
        cache.observe(child(7), gone=True)
        for version in order:
            cache.wrote(child(version))
    assert versions(cache) == ([] if end else [6])


def load_test(version: int, *conditions: dict[str, str]) -> dict[str, Any]:
    """The load test's Job."""
    job = child(version)
    job["metadata"] |= {
        "uid": "job-uid",
        "labels": job["metadata"]["labels"] | {names.COMPONENT_LABEL: names.LOADTEST},
    }
    return job | {"status": {"conditions": list(conditions)}}


COMPLETE = {"type": "Complete", "status": "True"}
ENDED = load_test(6, COMPLETE)


@pytest.mark.parametrize(
    "news",
    [
        pytest.param(lambda cache: cache.observe(ENDED), id="its end, by a watch"),
        pytest.param(lambda cache: cache.replace("Job", None, iter([ENDED]), 6), id="its end, by a list"),
        pytest.param(lambda cache: cache.create(ENDED), id="its end, by the answer to a write"),
        pytest.param(lambda cache: cache.observe(load_test(6), gone=True), id="its deletion, by a watch"),
        pytest.param(lambda cache: cache.replace("Job", None, iter([]), 6), id="its deletion, by a list"),
    ],
)
def test_pass_that_sees_what_became_of_the_load_test_asks_for_the_resource(
    news: Callable[[CachedCluster], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass can run as soon as the cache has released its lock."""
    resource = {"metadata": {"namespace": KEY[0], "name": KEY[1], "uid": "uid"}}
    before, after = ({**resource, "metadata": resource["metadata"] | {"resourceVersion": v}} for v in ("1", "9"))
    cluster = create_autospec(KubernetesCluster, instance=True)
    cluster.get_model.return_value, cluster.list_pods.return_value = after, []
    cluster.create.side_effect = lambda body: body
    cache = CachedCluster(cluster)
    cache.start_with("Job", None, [load_test(5)], 5)
    cache.observe_model(before)
    seen = []

    def look() -> None:
        children = cache.list_children(*KEY)
        seen.append((children, cache.get_model(*KEY)))

    look()
    for name in ("observe", "replace", "wrote"):
        monkeypatch.setattr(ObjectCache, name, followed_by(look, getattr(ObjectCache, name)))
    news(cache)
    look()
    assert seen[0] == ([load_test(5)], before)
    assert [model for children, model in seen if children != [load_test(5)]] == [after, after]


def followed_by(look: Callable[[], None], step: Callable[..., Any]) -> Callable[..., Any]:
    """Run `step`, then a pass before the caller continues."""

    def both(*args: Any, **kwargs: Any) -> Any:
        answer = step(*args, **kwargs)
        look()
        return answer

    return both


def resource(version: int, name: str = KEY[1], operator_class: str | None = None) -> dict[str, Any]:
    spec = {} if operator_class is None else {"operatorClass": operator_class}
    metadata = {"namespace": KEY[0], "name": name, "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": spec}


def a_cache(operator_class: str = "") -> CachedCluster:
    cluster = create_autospec(KubernetesCluster, instance=True)
    cluster.get_model.return_value = None
    return CachedCluster(cluster, operator_class)


def test_list_of_resources_tells_of_new_changed_and_vanished_ones_only() -> None:
    cache = a_cache()
    for version, name in ((1, "same"), (2, "changed"), (3, "vanished"), (9, "written since")):
        cache.observe_model(resource(version, name))
    listed = [resource(1, "same"), resource(4, "changed"), resource(5, "unknown")]
    told = cache.replace_models(None, iter(listed), 8)
    assert told == {(KEY[0], name) for name in ("changed", "unknown", "vanished")}
    assert cache.get_model(KEY[0], "vanished") is None
    assert {name for _, name in cache.models()} == {"same", "changed", "unknown", "written since"}


def test_list_of_one_namespace_says_nothing_of_another() -> None:
    cache = a_cache()
    cache.observe_model(resource(1))
    assert cache.replace_models("elsewhere", iter([]), 8) == set()
    assert cache.knows(KEY)


@pytest.mark.parametrize(("operator_class", "theirs"), [("", "fast"), ("fast", None), ("fast", "slow")])
def test_resource_of_another_class_does_not_exist(operator_class: str, theirs: str | None) -> None:
    cluster = create_autospec(KubernetesCluster, instance=True)
    cluster.get_model.return_value = resource(1, operator_class=theirs)
    cache = CachedCluster(cluster, operator_class)
    assert cache.observe_model(resource(1, operator_class=theirs)) == set()
    assert cache.replace_models(None, iter([resource(1, operator_class=theirs)]), 1) == set()
    assert (cache.knows(KEY), cache.get_model(*KEY), cache.models()) == (False, None, [])


def test_changed_class_hands_a_resource_over() -> None:
    before, after = resource(1, operator_class="slow"), resource(2, operator_class="fast")
    slow, fast = a_cache("slow"), a_cache("fast")
    assert (slow.observe_model(before), fast.observe_model(before)) == ({KEY}, set())
    assert (slow.observe_model(after), fast.observe_model(after)) == ({KEY}, {KEY})
    assert (slow.get_model(*KEY), fast.get_model(*KEY)) == (None, after)
    assert (slow.knows(KEY), fast.knows(KEY)) == (False, True)


def test_what_becomes_of_others_children_is_not_remembered_for_ever() -> None:
    cache = a_cache()
    cache.observe_model(resource(1, "ours"))
    for number in range(100):
        child = load_test(number)
        child["metadata"]["labels"][names.MODEL_LABEL] = f"other-{number}"
        cache.observe(child)
        cache.observe(child, gone=True)
    cache.replace_models(None, iter([resource(1, "ours")]), 200)
    assert [key for name, value in vars(cache).items() if isinstance(value, set) for key in value] == []
