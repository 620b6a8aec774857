"""`dying_engine.py SCRATCH`: crash vLLM in a step, and print what each request received as JSON.

It reads STAGE_CONFIG as a stage does. It runs as a separate process because vLLM does not release its threads and
memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from toxicity_api.prompting import LabelTokens, build_prompt, label_tokens
from toxicity_api.spec import PromptFormat
from toxicity_api.stage_config import EngineConfig, parse_stage_config
from toxicity_serving.__main__ import prepare_process
from toxicity_serving.engine.protocol import Engine, EngineError
from toxicity_serving.engine.vllm import VllmEngine

BEHIND = 31


async def told(engine: Engine, prompt: list[int], labels: LabelTokens) -> str:
    try:
        await engine.label_logprobs(prompt, labels)
    except EngineError as error:
        return str(error)
    return "scores"


def break_steps() -> None:
    """Make every step of the engine raise. vLLM refuses prompts that would crash it."""
    import vllm

    def step(engine: object) -> None:
        raise RuntimeError("a step failed")

    vllm.LLMEngine.step = step


async def die(config: EngineConfig, scratch: Path) -> dict[str, object]:
    engine = VllmEngine(config, scratch)
    loaded = await engine.start()
    labels = label_tokens(loaded.tokenizer, config.labels)
    prompt = build_prompt(loaded.tokenizer, PromptFormat(config.prompt_template, 0), "чай", 99).ids
    before = await told(engine, prompt, labels)
    break_steps()
    during = await asyncio.gather(*(told(engine, prompt, labels) for _ in range(1 + BEHIND)))
    after = await told(engine, prompt, labels)
    try:
        await engine.check()
        check = "works"
    except EngineError as error:
        check = str(error)
    await engine.stop()
    return {"before": before, "during": during, "after": after, "check": check}


if __name__ == "__main__":
    stage = parse_stage_config(EngineConfig, dict(os.environ))
    prepare_process(stage.gpus)
    print(json.dumps(asyncio.run(die(stage, Path(sys.argv[1])))), flush=True)
