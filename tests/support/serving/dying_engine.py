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

from toxicity_api.prompting import build_prompt
from toxicity_api.spec import PromptFormat
from toxicity_api.stage_config import EngineConfig, parse_stage_config
from toxicity_serving.__main__ import prepare_process
from toxicity_serving.engine.protocol import Engine, EngineError
from toxicity_serving.engine.vllm import VllmEngine

BEHIND = 31


async def told(engine: Engine, prompt: list[int]) -> str:
    try:
        await engine.label_logits(prompt)
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
    prompt = build_prompt(loaded.tokenizer, PromptFormat(config.prompt_template, 0), "чай", 99).ids
    before = await told(engine, prompt)
    break_steps()
    during = await asyncio.gather(*(told(engine, prompt) for _ in range(1 + BEHIND)))
    after = await told(engine, prompt)
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
