"""vLLM's scheduler with short steps while small requests come. Imports vLLM, which names it in `scheduler_cls`."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from toxicity_serving.engine.runners import LARGE_PRIORITY, PREFILL_CHUNK
from toxicity_serving.fair_queue import LOOKAHEAD_SECONDS


class ShortStepScheduler(Scheduler):  # type: ignore[misc]
    """Computes long prompts in pieces of PREFILL_CHUNK tokens while large and small requests meet.

    A step cannot be interrupted, so a short text would wait for whole windows of long texts. vLLM's setting for this,
    `long_prefill_token_threshold`, holds all the time: it would make long texts slower when they are alone. And it does
    not cut a prompt that is alone in the engine, while the next short text may come at any moment.
    """

    max_num_scheduled_tokens: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._whole_step = self.max_num_scheduled_tokens
        self._small_seen = -math.inf

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        prompts = list(itertools.chain(self.running, self.waiting))
        large = sum(prompt.priority == LARGE_PRIORITY for prompt in prompts)
        now = time.monotonic()
        if large < len(prompts):
            self._small_seen = now
        # a client needs a moment between an answer and its next request
        short = large > 0 and now - self._small_seen < LOOKAHEAD_SECONDS
        self.scheduler_config.long_prefill_token_threshold = PREFILL_CHUNK if short else 0
        self.max_num_scheduled_tokens = PREFILL_CHUNK if short and len(prompts) == 1 else self._whole_step
        return super().schedule(*args, **kwargs)
