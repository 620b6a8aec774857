"""The base model, its LoRA adapter, and the merged checkpoint that later stages read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toxicity_api.spec import Lora
from toxicity_training.errors import ModelError

ALL_LINEAR = "all-linear"


def load_model(folder: Path, *, gpus: int) -> tuple[Any, Any]:
    """(model, tokenizer) from a Hugging Face folder: fp32 on CPU, bf16 on the accelerator when `gpus` > 0.

    Only safetensors are read. Raises ModelError when the folder is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError(
            "BaseModelUnreadable", f"baseModel: {folder} has no config.json; provide a Hugging Face folder"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16 if gpus else torch.float32,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise ModelError("BaseModelUnreadable", f"baseModel: cannot load {folder}: {error}") from error
    return model.to("cuda" if gpus else "cpu"), tokenizer


def add_lora(model: Any, lora: Lora) -> Any:
    """`model` with a trainable adapter as the spec describes it. Raises ModelError for unknown target modules."""
    from peft import LoraConfig, get_peft_model

    modules = lora.target_modules
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=ALL_LINEAR if modules == [ALL_LINEAR] else modules,
        init_lora_weights="gaussian" if lora.init_weights == "gaussian" else True,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ModelError("UnknownTargetModules", f"training.lora.targetModules: {error}") from error


def save_adapter(model: Any, folder: Path) -> None:
    """The adapter alone, for people who want to load it on the base model."""
    model.save_pretrained(folder, safe_serialization=True)


def merge(model: Any) -> Any:
    """The base model with the adapter added into its weights."""
    return model.merge_and_unload(safe_merge=True)


def save_merged(model: Any, tokenizer: Any, folder: Path) -> None:
    """`model` as bf16 safetensors, with the tokenizer. Changes `model` to bf16."""
    import torch

    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
