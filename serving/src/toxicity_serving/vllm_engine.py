"""vLLM's AsyncLLM as an `Engine`: one prefill and one generated token per prompt, in this very process."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from toxicity_api.checksums import CHECKSUMS_FILE, verify_checksums
from toxicity_api.prompting import LabelTokens
from toxicity_api.stage_config import EngineConfig
from toxicity_serving.engine import EngineError, LabelTokenMissing, Loaded
from toxicity_serving.weights import PreparedWeights, WeightsError, prepare_weights, read_machine

logger = logging.getLogger(__name__)

CPU_KV_CACHE_BYTES = 1 << 30
TCMALLOC = Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")


def set_vllm_environment(environment: MutableMapping[str, str], gpus: int) -> None:
    """Settings that vLLM and its child processes read from the environment; those already set win."""
    defaults = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if not gpus:
        # nobind: the pod's CPU limit decides, not a core list; no dynamo: the image carries no compiler.
        defaults |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": _cpus()}
        # the worker then runs in the engine's process. vLLM gives it one of its own on a CPU to set its OpenMP up,
        # which is done below already; without it a third of the start is saved, vLLM's third import
        defaults |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        # read by the engine's process only: an allocator and an OpenMP whose threads sleep soon after work
        preloaded = [
            str(library) for library in (Path(sys.prefix, "lib", "libiomp5.so"), TCMALLOC) if library.exists()
        ]
        defaults |= {"LD_PRELOAD": ":".join(preloaded), "KMP_BLOCKTIME": "1"} if preloaded else {}
    for name, value in defaults.items():
        environment.setdefault(name, value)


def _cpus() -> str:
    return str(len(os.sched_getaffinity(0)))


def engine_arguments(config: EngineConfig, prepared: PreparedWeights) -> dict[str, Any]:
    """What vLLM's AsyncEngineArgs takes."""
    placed: dict[str, Any] = (
        {"gpu_memory_utilization": config.gpu_memory_utilization, "tensor_parallel_size": config.gpus}
        if config.gpus
        else {"kv_cache_memory_bytes": CPU_KV_CACHE_BYTES, "enforce_eager": True}
    )
    return {
        "model": str(prepared.path),
        "dtype": prepared.plan.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "kv_cache_dtype": config.kv_cache_dtype,
        # prompts share a few tokens only, less than a block
        "enable_prefix_caching": False,
        "disable_log_stats": True,
        **placed,
    }


@functools.cache
def _sampling(labels: LabelTokens) -> Any:
    """One token, of which only the two labels' log-probabilities are wanted; vLLM copies it for each request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        logprob_token_ids=[labels.toxic, labels.non_toxic],
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


class VllmEngine:
    """Prepares the weights, then runs them. vLLM is imported in `start`, so that building this costs nothing."""

    def __init__(self, config: EngineConfig, scratch_dir: Path) -> None:
        self._config = config
        self._scratch_dir = scratch_dir
        self._llm: Any = None
        self._request_ids = itertools.count()

    async def start(self) -> Loaded:
        try:
            verified = await asyncio.to_thread(self._verify)
            prepared = await asyncio.to_thread(self._prepare)
            # in a thread: loading takes a minute, and meanwhile the probes want answers
            self._llm = await asyncio.to_thread(self._load, prepared)
        except (WeightsError, OSError, ValueError, RuntimeError, TimeoutError) as error:
            raise EngineError(f"the engine did not start: {error}") from error
        import vllm

        return Loaded(
            self._llm.get_tokenizer(),
            f"vllm {vllm.__version__}",
            prepared.plan.form,
            prepared.plan.dtype,
            verified,
        )

    def _verify(self) -> bool:
        began = time.perf_counter()
        verified = verify_checksums(self._config.model_dir)
        if verified:
            logger.info("weights_verified seconds=%.2f", time.perf_counter() - began)
        else:
            logger.warning("weights_unverified reason=%r", f"{self._config.model_dir} has no {CHECKSUMS_FILE}")
        return verified

    def _prepare(self) -> PreparedWeights:
        return prepare_weights(self._config.model_dir, self._scratch_dir, read_machine(self._config.gpus))

    def _load(self, prepared: PreparedWeights) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_arguments(self._config, prepared)))

    async def label_logprobs(self, prompt_ids: list[int], labels: LabelTokens) -> tuple[float, float]:
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        last: Any = None
        request_id = str(next(self._request_ids))
        try:
            # tokens_input: what vLLM makes of other prompts in a thread pool of its own
            async for output in self._llm.generate(tokens_input(prompt_ids), _sampling(labels), request_id):
                last = output
        except EngineDeadError as error:
            raise EngineError(str(error)) from error
        found = (last.outputs[0].logprobs or [{}])[0] if last else {}
        if labels.toxic not in found or labels.non_toxic not in found:
            raise LabelTokenMissing(
                f"no log-probability of {labels.toxic} or {labels.non_toxic} in {sorted(found)}"
            )
        return found[labels.toxic].logprob, found[labels.non_toxic].logprob

    async def check(self) -> None:
        if self._llm is not None and self._llm.errored:
            raise EngineError(f"vLLM's engine died: {self._llm.dead_error}")

    async def stop(self) -> None:
        if self._llm is not None:
            llm, self._llm = self._llm, None
            await asyncio.to_thread(llm.shutdown)
