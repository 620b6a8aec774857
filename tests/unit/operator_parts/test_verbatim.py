"""Texts of a spec reach the processes unchanged, although Kubernetes expands variables and arguments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import SETTINGS, a_model
from toxicity_api.normal_form import NORMAL_FORM_VERSION
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE, TrainingConfig, parse_stage_config
from toxicity_operator.chain import build_chain
from toxicity_operator.manifests.common import env
from toxicity_operator.manifests.training_job import build_training_job

TEMPLATE = "цена $ти или $$: {text} $(HOME) $"
LABELS = {"toxic": " $да", "nonToxic": " $(нет)"}


def expand(value: str, variables: dict[str, str]) -> str:
    """Expand as k8s.io/kubernetes/third_party/forked/golang/expansion, which reads bytes."""
    data, out, at = value.encode(), b"", 0
    while at < len(data):
        if data[at : at + 1] != b"$" or at + 1 == len(data):
            out, at = out + data[at : at + 1], at + 1
        elif data[at + 1 : at + 2] == b"$":
            out, at = out + b"$", at + 2
        elif data[at + 1 : at + 2] == b"(" and (end := data.find(b")", at)) > 0:
            name = data[at + 2 : end].decode()
            out, at = out + variables.get(name, f"$({name})").encode(), end + 1
        else:
            # Go makes a string of the one byte as if it were a letter, which tears a letter of several bytes
            out, at = out + b"$" + chr(data[at + 1]).encode(), at + 2
    return out.decode()


@given(st.text(st.sampled_from("$()aЯ ")))
def test_any_variable_reaches_the_process_as_it_is(value: str) -> None:
    (variable,) = env({"NAME": value})
    assert expand(variable["value"], {"a": "no", "": "no"}) == value


def test_without_care_it_would_not() -> None:
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        assert expand(TEMPLATE, {"HOME": "/tmp"}) == TEMPLATE


@pytest.mark.parametrize("path", ["training.promptTemplate", "training.labels"])
def test_stage_reads_the_spec_that_was_written(path: str) -> None:
    builder = a_model().with_spec(path, TEMPLATE if path.endswith("Template") else LABELS)
    model = builder.build()
    job: Any = build_training_job(model, build_chain(model, SETTINGS).train, "train-image:1")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables: dict[str, str] = {}
    for entry in container["env"]:
        variables[entry["name"]] = expand(entry["value"], variables)
    read = parse_stage_config(TrainingConfig, {STAGE_CONFIG_VARIABLE: variables[STAGE_CONFIG_VARIABLE]})
    assert read.training == model.spec.training.with_normal_form(NORMAL_FORM_VERSION)
