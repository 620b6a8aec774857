"""`pod` of a stage: what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model
from support.pod_settings import BESIDE, HIDDEN, REFUSED, mounted
from toxicity_operator.errors import InvalidSpec


@pytest.mark.parametrize(("path", "value", "words"), REFUSED)
def test_pod_field_that_would_break_a_container_is_refused(path: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        a_model().with_spec(path, value).build()
    assert words in str(refusal.value)
    assert f"spec.{'.'.join(path.split('.')[:2])}" in str(refusal.value) or words.startswith("loadTest.pod")


@pytest.mark.parametrize("path", HIDDEN)
def test_volume_cannot_hide_files_of_the_container(path: str) -> None:
    with pytest.raises(InvalidSpec, match="must not hide files of the container"):
        a_model().with_spec("training.pod", mounted(path)).build()


@pytest.mark.parametrize("path", ["relative", "/", "/a/../b", "/a//b", "/a/", "/a:b"])
def test_mount_path_is_absolute_and_plain(path: str) -> None:
    with pytest.raises(InvalidSpec, match="mountPath"):
        a_model().with_spec("training.pod", mounted(path)).build()


@pytest.mark.parametrize("path", BESIDE)
def test_volume_can_be_mounted_elsewhere(path: str) -> None:
    (mount,) = a_model().with_spec("training.pod", mounted(path)).build().spec.training.settings.volume_mounts
    assert mount.mount_path == path
