"""Before the engine: chooses how this machine can run the checkpoint, and unpacks 4-bit weights where it must.

vLLM's 4-bit CPU kernel exists for AVX-512 only (its AVX2 library registers no `cpu_gemm_wna16`). On other x86
machines the checkpoint is decompressed once into scratch, with the numbers it had, and served unquantized.
Remove this when vLLM's AVX2 build has the kernel.
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
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_PACKED, _CONFIG, _PARTIAL = ".weight_packed", "config.json", "decompressing-"
_MODULE_TENSORS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")


class WeightsError(ValueError):
    """The checkpoint cannot be served on this machine."""


@dataclass(frozen=True)
class Machine:
    """What decides how weights run: `architecture` as `uname -m` names it, CPU flags, GPUs given to the pod."""

    architecture: str
    cpu_flags: frozenset[str]
    gpus: int


@dataclass(frozen=True)
class WeightsPlan:
    """How to run a checkpoint: `form` is what the model card says, `dtype` what the engine computes in."""

    form: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class PreparedWeights:
    path: Path
    plan: WeightsPlan


def default_scratch() -> Path:
    """Where unpacked weights go: the same path in all pods, for vLLM knows what it compiled by the weights' path."""
    return Path(tempfile.gettempdir()) / "weights"


def read_machine(gpus: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """This machine, with the flags of its first CPU."""
    lines = cpuinfo.read_text().splitlines()
    flags = next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "")
    return Machine(platform.machine(), frozenset(flags.split()), gpus)


def plan_weights(quantization: str | None, machine: Machine) -> WeightsPlan:
    """Decides form and dtype. `quantization` is the checkpoint's `quant_method`, None when it has none.

    Raises WeightsError for a quantization that this machine has no kernel for and that cannot be unpacked.
    """
    if machine.gpus:
        return WeightsPlan(NATIVE_4BIT if quantization else UNQUANTIZED, "bfloat16", "a GPU is there")
    has_kernel = machine.architecture != "x86_64" or machine.cpu_flags >= _AVX512
    dtype = "bfloat16" if machine.cpu_flags & _BFLOAT16 else "float32"
    if quantization is None:
        return WeightsPlan(UNQUANTIZED, dtype, "the checkpoint is not quantized")
    if has_kernel:
        return WeightsPlan(NATIVE_4BIT, "bfloat16", "the CPU has the 4-bit kernel")
    if quantization != "compressed-tensors":
        raise WeightsError(f"a checkpoint of quant_method {quantization} needs a GPU or a CPU with AVX-512")
    return WeightsPlan(DECOMPRESSED, dtype, "the 4-bit kernel needs AVX-512, which this CPU lacks")


def prepare_weights(model_dir: Path, scratch_dir: Path, machine: Machine) -> PreparedWeights:
    """The folder that the engine can load: `model_dir` itself or its decompressed copy under `scratch_dir`.

    A whole copy left by an earlier start is used again. Raises WeightsError, FileNotFoundError.
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
    """All tensors by name, packed ones unpacked in the type of their scales. Raises WeightsError."""
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
