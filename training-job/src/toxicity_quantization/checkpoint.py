"""What a checkpoint folder says about itself (quantized or not, its size), and the cast of its fp32 rest."""

from __future__ import annotations

import json
from pathlib import Path

from toxicity_training.errors import ModelError

CONFIG_FILE = "config.json"


def weights_bytes(folder: Path) -> int:
    """Bytes of all safetensors files of the folder. Raises ModelError when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError("WeightsMissing", f"{folder} holds no safetensors file")
    return sum(file.stat().st_size for file in files)


def cast_to_bf16(folder: Path) -> None:
    """Rewrites fp32 tensors as bf16, in files and in config.json; packed integers stay."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        tensors = {
            name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
            for name, tensor in load_file(file).items()
        }
        whole = file.with_suffix(".whole")
        save_file(tensors, whole, metadata=metadata)
        whole.replace(file)
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "bfloat16"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class NotQuantizedError(RuntimeError):
    """The quantization has left a checkpoint that is none."""


def require_quantized(folder: Path, original_bytes: int) -> int:
    """Bytes of the quantized weights. Raises NotQuantizedError unless config.json says how they are
    quantized and they are fewer than `original_bytes`."""
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if not config.get("quantization_config"):
        raise NotQuantizedError(f"{CONFIG_FILE} has no quantization_config: the weights were not quantized")
    size = weights_bytes(folder)
    if size >= original_bytes:
        raise NotQuantizedError(f"the weights did not shrink: {original_bytes} bytes before, {size} after")
    return size
