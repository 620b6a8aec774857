"""The version of the normal form that a model was trained with, in its folder.

Serving applies this version. A folder without the file is from a training on the texts as they are.
"""

from __future__ import annotations

import json
from pathlib import Path

from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.normal_form.form import UnknownFormError

NORMAL_FORM_FILE = "normal_form.json"


def write_normal_form(folder: Path, version: int) -> None:
    """Record the version in a model folder."""
    (folder / NORMAL_FORM_FILE).write_text(json.dumps({"version": version}) + "\n", encoding="utf-8")


def read_normal_form(folder: Path) -> int:
    """Return the recorded version, or 0 without a record.

    Raises UnknownFormError for a version that this release does not have, and for a damaged file.
    """
    path = folder / NORMAL_FORM_FILE
    if not path.exists():
        return 0
    try:
        version = json.loads(path.read_bytes())["version"]
    except (ValueError, LookupError, TypeError) as error:
        raise UnknownFormError(f"{path} cannot be read: {error!r}; train the model again") from error
    if type(version) is not int or not 0 <= version <= NORMAL_FORM_VERSION:
        raise UnknownFormError(
            f"{path} names version {version!r} of the normal form, and this release has 0 to {NORMAL_FORM_VERSION}:"
            " use a serving image of the release that trained the model, or a later one"
        )
    return version
