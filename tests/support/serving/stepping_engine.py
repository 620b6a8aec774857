"""`stepping_engine.py SCRATCH`: compute large and small prompts with vLLM, and print the tokens of each step as JSON.

It reads STAGE_CONFIG as a stage does. It runs as a separate process because vLLM does not release its threads and
memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from toxicity_api.prompting import label_tokens
from toxicity_api.stage_config import EngineConfig, parse_stage_config
from toxicity_serving.__main__ import prepare_process
from toxicity_serving.engine.vllm import VllmEngine
from toxicity_serving.fair_queue import LOOKAHEAD_SECONDS

LARGE, SMALL = 200, 60
"""Tokens of the prompts."""


def record_steps() -> list[list[int]]:
    """Return a list that gets the tokens of each prompt of each step."""
    from toxicity_serving.engine.scheduler import ShortStepScheduler

    steps: list[list[int]] = []
    schedule = ShortStepScheduler.schedule

    def recorded(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        output = schedule(scheduler, *args, **kwargs)
        steps.append(sorted(output.num_scheduled_tokens.values()))
        return output

    ShortStepScheduler.schedule = recorded  # type: ignore[method-assign]
    return steps


async def compute(config: EngineConfig, scratch: Path) -> dict[str, Any]:
    steps = record_steps()
    engine = VllmEngine(config, scratch)
    loaded = await engine.start()
    word = label_tokens(loaded.tokenizer, config.labels).toxic

    async def alone(tokens: int, *, large: bool) -> dict[str, Any]:
        steps.clear()
        scored = await engine.label_logits([word] * tokens, large=large)
        return {"steps": list(steps), "score": scored[0]}

    async def together() -> dict[str, Any]:
        steps.clear()
        large = asyncio.create_task(engine.label_logits([word] * LARGE, large=True))
        small = asyncio.create_task(engine.label_logits([word] * SMALL))
        await small
        overtook = not large.done()
        return {"score": (await large)[0], "overtook": overtook, "steps": list(steps)}

    found = {"large": await alone(LARGE, large=True), "small": await alone(SMALL, large=False)}
    found["large after small"] = await alone(LARGE, large=True)
    found["together"] = await together()
    found["long, but of a small request"] = await alone(LARGE, large=False)
    await asyncio.sleep(2 * LOOKAHEAD_SECONDS)  # no small request is expected any more
    found["large later"] = await alone(LARGE, large=True)
    await engine.stop()
    return found


if __name__ == "__main__":
    stage = parse_stage_config(EngineConfig, dict(os.environ))
    prepare_process(stage.gpus)
    print(json.dumps(asyncio.run(compute(stage, Path(sys.argv[1])))), flush=True)
