"""Runs a test on the CPU and, marked `gpu`, again on an NVIDIA GPU (`make test-gpu`).

A test that `on_cpu_and_gpu` decorates takes the fixture `gpus`, which the folder's conftest makes by `granted`.
"""

from __future__ import annotations

import pytest

_ONE_GPU = pytest.param(1, id="gpu", marks=pytest.mark.gpu)

on_cpu_and_gpu = pytest.mark.parametrize("gpus", [pytest.param(0, id="cpu"), _ONE_GPU], indirect=True)

needs_gpu = pytest.mark.parametrize("gpus", [_ONE_GPU], indirect=True)
"""For tests that only a GPU can run; they may have the fixture through another one, such as a configuration's."""

narrower_than_a_block = pytest.mark.filterwarnings("ignore:inner dimension .* is not aligned:UserWarning")
"""A warning of bitsandbytes' CUDA kernel for layers as narrow as the tiny model's, which use a fallback."""


def granted(request: pytest.FixtureRequest) -> int:
    """The number of GPUs that the test uses, 0 by default. Fails if there are fewer."""
    gpus: int = getattr(request, "param", 0)
    if gpus:
        require_gpu()
    return gpus


def require_gpu() -> None:
    """Fails the test on a machine without a GPU: it was selected explicitly, so it is not skipped."""
    import torch

    if not torch.cuda.is_available():
        pytest.fail(f"torch {torch.__version__} sees no CUDA device, which tests marked gpu need")
