"""`every_head.py FOLDER FAMILY…`: logits of labels by vLLM and by Transformers, for tiny random models, as JSON.

It runs as a separate process because vLLM does not release its threads and memory.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import Any

from support.serving.process import engine_fields
from support.training.tiny import PLAIN, write_base_model
from toxicity_api.prompting import label_tokens
from toxicity_api.stage_config import EngineConfig
from toxicity_serving.__main__ import prepare_process
from toxicity_serving.engine import vllm
from toxicity_serving.engine.weights import Machine

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
FURTHER: dict[str, dict[str, Any]] = {
    "Gemma2": {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 64},
    "Llama": {"tie_word_embeddings": False},
    "Mistral": {"tie_word_embeddings": True, "sliding_window": None},
    "Granite": {"logits_scaling": 4.0},
}


def write_model(folder: Path, family: str) -> None:
    """A random model of that family with the tokenizer of the tiny Gemma 3."""
    import torch
    import transformers

    write_base_model(folder, hidden_size=64, intermediate_size=128, head_dim=64)
    if family != "Gemma3":
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
        configuration = getattr(transformers, f"{family}Config")(
            vocab_size=vocabulary,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            **SIZES,
            **FURTHER.get(family, {}),
        )
        torch.manual_seed(1)
        getattr(transformers, f"{family}ForCausalLM")(configuration).save_pretrained(folder)


async def by_vllm(config: EngineConfig, scratch: Path, prompts: list[list[int]]) -> tuple[str, list[float]]:
    """The way that was chosen, and toxic minus non-toxic of each prompt."""
    engine = vllm.VllmEngine(config, scratch)
    await engine.start()
    way = type(engine._started.logits).__name__ if engine._started else ""
    found = [await engine.label_logits(prompt) for prompt in prompts]
    await engine.stop()
    return way, [toxic - non_toxic for toxic, non_toxic in found]


def by_transformers(folder: Path, prompts: list[list[int]], labels: list[int]) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    # the other implementations leave out Gemma 2's cap on its attention
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        logits = [model(torch.tensor([prompt])).logits[0, -1, labels] for prompt in prompts]
    return [float(toxic - non_toxic) for toxic, non_toxic in logits]


def compare(folder: Path, family: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    write_model(folder / family, family)
    config = EngineConfig.model_validate(engine_fields(folder / family, enforceEager=True))
    tokenizer = AutoTokenizer.from_pretrained(folder / family)
    labels = label_tokens(tokenizer, config.labels)
    prompts = [[1, *tokenizer(" ".join(PLAIN[: n + 1]), add_special_tokens=False)["input_ids"]] for n in range(4)]
    way, served = asyncio.run(by_vllm(config, folder, prompts))
    gc.collect()
    return {
        "way": way,
        "vllm": served,
        "transformers": by_transformers(folder / family, prompts, [labels.toxic, labels.non_toxic]),
    }


if __name__ == "__main__":
    prepare_process(0)
    # a CPU without bf16, so that the engine computes in float32 as Transformers does here
    vllm.read_machine = lambda gpus: Machine("x86_64", frozenset(), gpus)  # type: ignore[attr-defined]
    print(json.dumps({family: compare(Path(sys.argv[1]), family) for family in sys.argv[2:]}), flush=True)
