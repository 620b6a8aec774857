"""The arithmetic of a training: bf16 mixed precision or fp32."""

from __future__ import annotations

from typing import Any

from toxicity_api.spec import TrainingSpec

BF16, FP32 = "bf16", "fp32"
"""Values of training.precision."""


def precision(spec: TrainingSpec) -> str:
    """BF16 or FP32: that of the spec, or the faster one on this machine."""
    if spec.precision:
        return spec.precision
    if spec.gpus:
        return BF16
    return BF16 if not spec.loads_4bit and cpu_has_bf16() else FP32


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies matrices in bf16. Elsewhere bf16 is emulated and slower than fp32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(spec: TrainingSpec) -> Any:
    """A context in which the model computes in the precision of the spec, as the engines' models do by themselves."""
    import torch

    return torch.autocast(
        "cuda" if spec.gpus else "cpu", dtype=torch.bfloat16, enabled=precision(spec) == BF16 and not spec.gpus
    )
