"""The base model, its LoRA adapter, and the merged checkpoint that later stages read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_stage.errors import ModelError, detail_of
from toxicity_stage.ranks import local_rank
from toxicity_training.precision import BF16, precision
from toxicity_training.refusals import (
    may_be_the_machine,
    refuse_empty,
    refuse_parts,
    refuse_tied_targets,
    tied_modules,
    unreadable,
)

ALL_LINEAR = "all-linear"


def load_model(folder: Path, spec: TrainingSpec) -> tuple[Any, Any]:
    """(model, tokenizer) from a Hugging Face folder: fp32 on CPU; bf16, fp32 or 4 bit on this process's accelerator.

    Only safetensors are read. Raises ModelError if the folder is not a complete model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if not (folder / "config.json").is_file():
        raise unreadable(folder, "has no config.json")
    if spec.gpus:
        torch.cuda.init()  # a missing GPU fails here, so it is not reported as an unreadable folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            # on a CPU, autocast is faster with weights in fp32 than with weights in bf16
            dtype=torch.bfloat16 if spec.gpus and precision(spec) == BF16 else torch.float32,
            use_safetensors=True,
            local_files_only=True,
            device_map={"": device(spec)},
            # the folder's may be one that Transformers reads but refuses to save; scoring needs none
            generation_config=GenerationConfig(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refuse_parts names them; the error would not
            **_four_bit(spec),
        )
    # invalid JSON or safetensors files raise any of these
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        if may_be_the_machine(error):
            raise
        raise unreadable(folder, f"cannot be loaded: {type(error).__name__}: {detail_of(error)}") from error
    refuse_empty(folder, tokenizer)
    refuse_parts(folder, model, loading)
    return model, tokenizer


def device(spec: TrainingSpec) -> str:
    """The device of this process: the CPU, or the GPU of its local rank."""
    return f"cuda:{local_rank(os.environ)}" if spec.gpus else "cpu"


def _four_bit(spec: TrainingSpec) -> dict[str, Any]:
    """NF4 with double quantization, computing in bf16: the settings of QLoRA (arXiv 2305.14314, section 3)."""
    import torch
    from transformers import BitsAndBytesConfig

    if not spec.loads_4bit:
        return {}
    configuration = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision(spec) == BF16 else torch.float32,
    )
    return {"quantization_config": configuration}


def add_lora(model: Any, spec: TrainingSpec) -> Any:
    """`model` with a trainable LoRA adapter as in the spec.

    Raises ModelError for target modules that do not exist or cannot be merged.
    """
    from peft import LoraConfig, get_peft_model

    if spec.loads_4bit:
        model = _prepare_4bit(model, spec)
    lora = spec.lora
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
    tied = tied_modules(model)
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError("UnknownTargetModules", f"training.lora.targetModules: {error}") from error
    refuse_tied_targets(adapted.targeted_module_names, tied)
    return adapted


def _prepare_4bit(model: Any, spec: TrainingSpec) -> Any:
    """`model` frozen, with norms in fp32 as PEFT prepares it, and the embedding in the type it was loaded in.

    PEFT casts the embedding to fp32 too. For Gemma 2 2B that takes as much memory as all the 4-bit weights, and makes
    every layer compute in fp32. The reference implementation of QLoRA casts it back as well.
    """
    from peft import prepare_model_for_kbit_training

    loaded = model.get_input_embeddings().weight.dtype
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=spec.gradient_checkpointing)
    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
        embedding.to(loaded)
    return model


def save_adapter(model: Any, folder: Path) -> None:
    """Saves the adapter alone, to be loaded on the base model."""
    model.save_pretrained(folder, safe_serialization=True)


def release_memory() -> None:
    """Frees the memory of models that nothing refers to any more, also on the GPU. The Trainer's are in cycles."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def merge(base: Path, adapter: Path, spec: TrainingSpec) -> tuple[Any, Any]:
    """(model, tokenizer): the base model with the adapter that `save_adapter` wrote merged into its weights.

    The base is loaded in full precision: merging into 4-bit weights would round the adapter away.
    """
    from peft import PeftModel

    whole, tokenizer = load_model(base, in_full(spec))
    return PeftModel.from_pretrained(whole, adapter).merge_and_unload(safe_merge=True), tokenizer


def in_full(spec: TrainingSpec) -> TrainingSpec:
    """`spec` without 4 bit, to load a model in bf16 on a GPU and in fp32 on the CPU."""
    return spec.model_copy(update={"load4bit": False})


def save_merged(model: Any, tokenizer: Any, folder: Path) -> None:
    """Saves `model` as bf16 safetensors, with the tokenizer. Casts `model` to bf16."""
    import torch

    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
