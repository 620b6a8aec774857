"""Choose how this machine runs a checkpoint, and decompress 4-bit weights where the 4-bit kernel is missing or slower.

vLLM's 4-bit CPU kernel requires AVX-512 (its AVX2 library registers no `cpu_gemm_wna16`), and a CPU with bf16
instructions multiplies bf16 matrices about twice as fast. On such x86 machines the checkpoint is decompressed once into
temporary storage and served unquantized, with the values of the 4-bit weights.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxicity_api.checksums import CHECKSUMS_FILE

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

NATIVE_4BIT = "native-4bit"
DECOMPRESSED = "decompressed"
UNQUANTIZED = "unquantized"

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
_X86_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
_BFLOAT16 = _X86_BFLOAT16 | {"bf16"}
_PACKED, _CONFIG, _PARTIAL = ".weight_packed", "config.json", "decompressing-"
_MODULE_TENSORS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")


class WeightsError(ValueError):
    """The checkpoint cannot be served on this machine."""


@dataclass(frozen=True)
class Machine:
    """The hardware that decides how weights run: `architecture` as in `uname -m`, CPU flags, the pod's GPUs."""

    architecture: str
    cpu_flags: frozenset[str]
    gpus: int


@dataclass(frozen=True)
class WeightsPlan:
    """How to run a checkpoint: `form` is shown on the model card, `dtype` is the engine's data type."""

    form: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class PreparedWeights:
    path: Path
    plan: WeightsPlan


def default_scratch() -> Path:
    """Return the folder for decompressed weights. All pods use the same path: it is part of vLLM's cache key."""
    return Path(tempfile.gettempdir()) / "weights"


def read_machine(gpus: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Describe this machine, with the flags of its first CPU."""
    lines = cpuinfo.read_text().splitlines()
    flags = next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "")
    return Machine(platform.machine(), frozenset(flags.split()), gpus)


def plan_weights(quantization: str | None, machine: Machine) -> WeightsPlan:
    """Choose form and dtype. `quantization` is the checkpoint's `quant_method`, or None.

    Raises WeightsError for a quantization that this machine has no kernel for and that cannot be decompressed.
    """
    if machine.gpus:
        return WeightsPlan(NATIVE_4BIT if quantization else UNQUANTIZED, "bfloat16", "the pod has a GPU")
    has_kernel = machine.architecture != "x86_64" or machine.cpu_flags >= _AVX512
    dtype = "bfloat16" if machine.cpu_flags & _BFLOAT16 else "float32"
    if quantization is None:
        return WeightsPlan(UNQUANTIZED, dtype, "the checkpoint is not quantized")
    can_decompress = quantization == "compressed-tensors"
    if can_decompress and machine.cpu_flags & _X86_BFLOAT16:
        return WeightsPlan(DECOMPRESSED, dtype, "on this CPU, bf16 is faster than the 4-bit kernel")
    if has_kernel:
        return WeightsPlan(NATIVE_4BIT, "bfloat16", "the CPU has the 4-bit kernel")
    if not can_decompress:
        raise WeightsError(f"a checkpoint of quant_method {quantization} needs a GPU or a CPU with AVX-512")
    return WeightsPlan(DECOMPRESSED, dtype, "the 4-bit kernel needs AVX-512, which this CPU lacks")


def prepare_weights(model_dir: Path, scratch_dir: Path, machine: Machine) -> PreparedWeights:
    """Return the folder that the engine loads: `model_dir`, or its decompressed copy under `scratch_dir`.

    A complete copy from an earlier start is reused. Raises WeightsError, FileNotFoundError.
    """
    config: dict[str, Any] = json.loads((model_dir / _CONFIG).read_text())
    plan = plan_weights((config.get("quantization_config") or {}).get("quant_method"), machine)
    logger.info("weights_planned form=%s dtype=%s reason=%r", plan.form, plan.dtype, plan.reason)
    if plan.form != DECOMPRESSED:
        return PreparedWeights(model_dir, plan)
    target = scratch_dir / f"{model_dir.parent.name}-decompressed"
    if not target.exists():
        scratch_dir.mkdir(parents=True, exist_ok=True)
        for interrupted in scratch_dir.glob(f"{_PARTIAL}*"):
            shutil.rmtree(interrupted)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=scratch_dir))
        _write_decompressed(model_dir, config, partial)
        partial.rename(target)
    logger.info("weights_decompressed from=%s to=%s", model_dir, target)
    return PreparedWeights(target, plan)


def _write_decompressed(model_dir: Path, config: dict[str, Any], target: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        decompressed(model_dir, config["quantization_config"]), target / "model.safetensors", {"format": "pt"}
    )
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    (target / _CONFIG).write_text(json.dumps(plain, ensure_ascii=False, indent=2))
    for file in model_dir.iterdir():
        if file.is_file() and file.name not in (_CONFIG, CHECKSUMS_FILE) and ".safetensors" not in file.name:
            shutil.copy2(file, target / file.name)


def decompressed(model_dir: Path, quantization_config: dict[str, Any]) -> dict[str, Tensor]:
    """Return all tensors by name, the packed ones decompressed to the data type of their scales.

    Raises WeightsError.
    """
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig

    groups = list(QuantizationConfig.model_validate(quantization_config).config_groups.values())
    if quantization_config.get("format") != "pack-quantized" or len(groups) != 1:
        raise WeightsError("only pack-quantized checkpoints with one group of settings can be decompressed")
    stored = dict(_stored(model_dir))
    unpacked: dict[str, Tensor] = {}
    for module in [name.removesuffix(_PACKED) for name in stored if name.endswith(_PACKED)]:
        found = {part: stored.pop(f"{module}.{part}", None) for part in _MODULE_TENSORS}
        state = {part: tensor for part, tensor in found.items() if tensor is not None}
        unpacked[f"{module}.weight"] = PackedQuantizationCompressor.decompress(state, groups[0])[
            "weight"
        ].contiguous()
    return stored | unpacked


def _stored(model_dir: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for file in sorted(model_dir.glob("*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 (not a mapping)
                yield name, shard.get_tensor(name)
