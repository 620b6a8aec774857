"""What a checkpoint folder says about itself (quantized or not, its size), and the cast of its fp32 rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toxicity_training.errors import ModelError

CONFIG_FILE = "config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of the folder. Raises ModelError when there is none."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError("ConfigMissing", f"{folder} has no {CONFIG_FILE}; run the training again")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def weights_bytes(folder: Path) -> int:
    """Bytes of all safetensors files of the folder. Raises ModelError when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError("WeightsMissing", f"{folder} holds no safetensors file; run the training again")
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
    config = read_config(folder)
    config["dtype"] = "bfloat16"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
