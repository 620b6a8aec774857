"""What is read in the same way from every kind of raw object. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from toxicity_api.types import Raw


def label(item: Raw, key: str) -> str:
    return str(item["metadata"].get("labels", {}).get(key, ""))


def is_owned_by(item: Raw, owner: Raw) -> bool:
    return any(found["uid"] == owner["metadata"]["uid"] for found in item["metadata"].get("ownerReferences", []))


def true_conditions(conditions: Iterable[Raw]) -> list[Raw]:
    """The conditions whose status is True."""
    return [condition for condition in conditions if condition["status"] == "True"]


def first_words(words: Callable[[Raw], str], pods: Iterable[Raw]) -> str:
    """What the first pod says that says something."""
    return next(filter(None, map(words, pods)), "")


def image_id(pods: list[Raw], component: str) -> str:
    """The image of the component's container in the newest pod that has started it."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container["name"] == component and container.get("imageID"):
                return str(container["imageID"])
    return ""
