"""The configuration and size of a checkpoint folder, and the steps that every backend needs to complete one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from toxicity_api.checksums import CHECKSUMS_FILE
from toxicity_stage.errors import ModelError

CONFIG_FILE = "config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of the folder. Raises ModelError if it is missing."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError("ConfigMissing", f"{folder} has no {CONFIG_FILE}; run the training again")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def weights_bytes(folder: Path) -> int:
    """Bytes of all safetensors files of the folder. Raises ModelError if there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError("WeightsMissing", f"{folder} has no safetensors file; run the training again")
    return sum(file.stat().st_size for file in files)


def complete(folder: Path, source: Path) -> None:
    """Completes the quantized weights in `folder` with the other files of the merged model in `source`.

    Tokenizer and configuration are copied from `source`, so that only the weights differ; the quantization_config of
    `folder` is kept. Floating-point tensors are cast to bf16, the type that the model is served in.
    """
    described = read_config(source) | {"dtype": "bfloat16"}
    quantization = read_config(folder).get("quantization_config")
    for entry in source.iterdir():
        if entry.is_dir():  # for example additional chat templates
            shutil.copytree(entry, folder / entry.name, dirs_exist_ok=True)
        elif ".safetensors" not in entry.name and entry.name != CHECKSUMS_FILE:
            shutil.copyfile(entry, folder / entry.name)
    _write_config(folder, described | ({"quantization_config": quantization} if quantization else {}))
    cast_to_bf16(folder)


def cast_to_bf16(folder: Path) -> None:
    """Rewrites floating-point tensors as bf16; packed integers are unchanged."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        tensors = {
            name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        whole = file.with_suffix(".whole")
        save_file(tensors, whole, metadata=metadata)
        whole.replace(file)


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
