"""The CRD generated from the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from toxicity_api.crd import build_crd, main, render_crd

ROOT = Path(__file__).parents[3]
COPIES = ["manifests/crd/toxicitymodels.yaml", "helm/toxicity-operator/files/toxicitymodels.yaml"]


def root_schema() -> dict[str, Any]:
    schema: dict[str, Any] = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def spec(*path: str) -> dict[str, Any]:
    node: dict[str, Any] = root_schema()["properties"]["spec"]
    for step in path:
        node = node["properties"][step]
    return node


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for key, value in schema.get("properties", {}).items():
        yield from nodes(value, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[{key}]")


@pytest.mark.parametrize("copy", COPIES)
def test_committed_copy_is_up_to_date(copy: str) -> None:
    assert (ROOT / copy).read_text(encoding="utf-8") == render_crd()


def test_yaml_says_the_same_as_the_data() -> None:
    assert yaml.safe_load(render_crd()) == build_crd()


def test_every_node_is_structural() -> None:
    allowed = {
        "description", "type", "enum", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "minLength", "maxLength", "pattern", "minItems", "maxItems", "maxProperties", "properties", "required",
        "items",
        "additionalProperties", "anyOf", "x-kubernetes-validations", "x-kubernetes-int-or-string",
        "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields",
    }  # fmt: skip
    for path, node in nodes(root_schema()):
        assert set(node) <= allowed, path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_every_field_of_spec_and_status_is_described() -> None:
    silent = [path for path, node in nodes(root_schema()) if path.startswith((".spec.", ".status."))
              and not path.endswith("]") and not node.get("description")]  # fmt: skip
    assert silent == []


def test_the_description_of_a_field_names_its_default() -> None:
    training = root_schema()["properties"]["spec"]["properties"]["training"]["properties"]
    assert training["maxInputLength"]["description"].endswith("Defaults to 256.")
    modules = training["lora"]["properties"]["targetModules"]["description"]
    assert modules.endswith('Defaults to ["all-linear"].')
    assert "Defaults to" not in training["load4bit"]["description"]


def test_status_has_no_defaults_that_nobody_would_own() -> None:
    status = root_schema()["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}, "the first pass overwrites it"
    assert [path for path, node in nodes(status) if "default" in node] == [""]


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("training.promptTemplate", "default", "токсичный текст: {text}\nответ:"),
        ("training.lora.targetModules", "default", ["all-linear"]),
        ("training.lora", "default", {}),
        ("training", "default", {}),
        ("training.epochs", "exclusiveMinimum", True),
        ("quantization.method", "enum", ["awq", "none"]),
        ("quantization.bits", "enum", [4]),
        ("loadTest.requestedRps", "default", 10.0),
        ("dataset.split.test", "exclusiveMaximum", True),
        ("storage.accessModes", "minItems", 1),
        ("storage.size", "x-kubernetes-int-or-string", True),
        ("serving.replicas", "minimum", 0),
    ],
)
def test_field_keeps_what_the_model_says(path: str, key: str, value: object) -> None:
    assert spec(*path.split("."))[key] == value


INT32_MAX = 2**31 - 1
INT32_FIELDS = {
    "replicas", "minReplicas", "maxReplicas", "target", "backoffLimit", "progressDeadlineSeconds",
    "scaleDownStabilizationSeconds", "workers",
}  # fmt: skip
"""Fields of the spec that are copied to an int32 field of a Kubernetes object."""


def test_every_number_of_the_spec_is_bounded() -> None:
    numbers = [(path, node) for path, node in nodes(spec()) if node.get("type") in ("integer", "number")]
    free = [path for path, node in numbers if "enum" not in node and not {"minimum", "maximum"} <= set(node)]
    assert free == []
    assert len(numbers) > 40, "the walk reaches the nested ones"


def test_numbers_of_kubernetes_objects_fit_their_fields() -> None:
    highest = {path: node["maximum"] for path, node in nodes(spec()) if path.rsplit(".", 1)[-1] in INT32_FIELDS}
    assert {path.rsplit(".", 1)[-1] for path in highest} == INT32_FIELDS
    assert [path for path, maximum in highest.items() if maximum > INT32_MAX] == []


@pytest.mark.parametrize("path", ["training.seed", "dataset.split.seed"])
def test_seed_has_32_bits(path: str) -> None:
    assert (spec(*path.split("."))["minimum"], spec(*path.split("."))["maximum"]) == (0, 2**32 - 1)


@pytest.mark.parametrize(
    "path", ["serving.autoscaling", "serving.replicas", "training.resources", "dataset.image"]
)
def test_optional_field_has_no_default(path: str) -> None:
    assert "default" not in spec(*path.split("."))


def test_lists_that_two_writers_share_are_maps() -> None:
    status = root_schema()["properties"]["status"]["properties"]
    assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert status["loadTest"]["properties"]["buckets"]["x-kubernetes-list-map-keys"] == ["name"]


def test_names_of_test_sets_are_unique() -> None:
    for place in ("spec", "status"):
        evaluation = root_schema()["properties"][place]["properties"]["evaluation"]["properties"]
        assert evaluation["testSets"]["x-kubernetes-list-map-keys"] == ["name"]
        assert evaluation["testSets"]["maxItems"] == 5


def test_printer_columns_point_at_fields_that_exist() -> None:
    version = build_crd()["spec"]["versions"][0]
    names = [column["name"].upper() for column in version["additionalPrinterColumns"]]
    assert names[:8] == ["READY", "STAGE", "F1", "F1-QUANT", "REPLICAS", "RPS", "P95", "AGE"]
    assert names[8:] == ["F1-SERVED", "THRESHOLD", "QUANTIZATION", "REVISION", "URL"], "wide ones"
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"].removeprefix(".").split("[")[0].split(".")
        node = root_schema()
        if path[0] == "metadata":
            continue
        for step in path:
            node = node["properties"][step]
        assert column["type"] in (node["type"], "string"), column


def test_check_names_the_stale_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh, stale = tmp_path / "a" / "fresh.yaml", tmp_path / "stale.yaml"
    assert main(["--write", str(fresh)]) == 0
    stale.write_text(fresh.read_text(encoding="utf-8").replace("toxm", "other"), encoding="utf-8")
    assert main(["--check", str(fresh)]) == 0
    assert main(["--check", str(fresh), str(stale)]) == 1
    assert main(["--check", str(tmp_path / "missing.yaml")]) == 1
    errors = capsys.readouterr().err
    assert str(stale) in errors and str(fresh) not in errors
