"""Every object of the chart compared whole with a committed file; UPDATE_GOLDEN=1 writes the files anew.

The CRD and the dashboard are not in them: both are files of the chart, which other tests compare with what is rendered.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from support.chart import EVERYTHING, Documents, Render

GOLDEN = Path(__file__).parent / "golden"


def text_of(documents: Documents) -> str:
    """The objects by kind and name, without the content that is a file of the chart."""
    kept = [document for document in documents if document["kind"] != "CustomResourceDefinition"]
    shown = [
        {**document, "data": sorted(document["data"])} if "data" in document else document for document in kept
    ]
    shown.sort(
        key=lambda document: (
            document["kind"],
            document["metadata"].get("namespace", ""),
            document["metadata"]["name"],
        )
    )
    yaml.add_representer(str, _represent_text, Dumper=_Dumper)
    return yaml.dump_all(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a diff shows the line that changed."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


@pytest.mark.parametrize(("name", "arguments"), [("default", ()), ("everything", ("-f", str(EVERYTHING)))])
def test_render_is_the_golden_one(render: Render, name: str, arguments: tuple[str, ...]) -> None:
    path, rendered = GOLDEN / f"{name}.yaml", text_of(render(*arguments))
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered, encoding="utf-8")
    assert rendered == path.read_text(encoding="utf-8")


def test_golden_text_reads_as_the_objects_that_were_rendered(render: Render) -> None:
    documents = render("-f", str(EVERYTHING))
    read = [document for document in yaml.safe_load_all(text_of(documents)) if "data" not in document]
    kept = [d for d in documents if d["kind"] != "CustomResourceDefinition" and "data" not in d]
    assert len(read) > 8
    assert all(document in kept for document in read)
    assert len(read) == len(kept)
