"""A model folder names the version of the normal form that serving applies."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxicity_api.normal_form.folder import NORMAL_FORM_FILE, read_normal_form, write_normal_form
from toxicity_api.normal_form.form import UnknownFormError


@pytest.mark.parametrize("version", [0, 1])
def test_version_is_read_as_it_was_written(tmp_path: Path, version: int) -> None:
    write_normal_form(tmp_path, version)
    assert read_normal_form(tmp_path) == version


def test_folder_without_a_version_is_from_a_training_on_texts_as_they_are(tmp_path: Path) -> None:
    assert read_normal_form(tmp_path) == 0


def test_version_of_a_later_release_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_normal_form(tmp_path, 7)
    with pytest.raises(
        UnknownFormError, match=r"version 7 .* 0 to 1: use a serving image of the release that trained"
    ):
        read_normal_form(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"version": "1"}', '{"version": true}'])
def test_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / NORMAL_FORM_FILE).write_text(content)
    with pytest.raises(UnknownFormError, match=NORMAL_FORM_FILE):
        read_normal_form(tmp_path)
