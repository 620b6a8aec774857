"""vLLM as an `Engine`. `runners` decides where it runs, and `label_logits` what it computes for a prompt."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity_api.checksums import CHECKSUMS_FILE, verify_checksums
from toxicity_api.normal_form.folder import read_normal_form
from toxicity_api.prompting import LabelTokenError, Tokenizer, label_tokens
from toxicity_api.stage_config import CompiledCode, EngineConfig
from toxicity_serving.engine.compiled import CACHE_VARIABLE, accept_inductor_code, default_cache, unpack
from toxicity_serving.engine.label_logits import LabelLogits, label_logits
from toxicity_serving.engine.protocol import EngineError, LoadedModel
from toxicity_serving.engine.runners import InProcessRunner, Runner, SubprocessRunner
from toxicity_serving.engine.tokenizer import fast_tokenizer
from toxicity_serving.engine.weights import PreparedWeights, WeightsError, prepare_weights, read_machine

logger = logging.getLogger(__name__)

CPU_KV_CACHE_BYTES = 1 << 30

CPU_SCHEDULER = "toxicity_serving.engine.scheduler.ShortStepScheduler"
"""On a GPU a step takes milliseconds, and there only vLLM's own scheduler prepares the next step during a step."""

PRELOAD = "LD_PRELOAD"
TCMALLOC = Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")


def set_vllm_environment(environment: MutableMapping[str, str], gpus: int) -> None:
    """Add the variables that vLLM and its child processes read to `environment`. Existing values are kept.

    LD_PRELOAD and the variables of OpenMP are read at process start, so they take effect in new processes only.
    """
    defaults = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": "WARNING",
        CACHE_VARIABLE: str(default_cache()),
    }
    if not gpus:
        # nobind: the pod's CPU limit applies instead of a list of cores
        defaults |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": _cpus()}
        defaults |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        # tcmalloc, and Intel's OpenMP with threads that sleep soon after work
        preloaded = [
            str(library) for library in (Path(sys.prefix, "lib", "libiomp5.so"), TCMALLOC) if library.exists()
        ]
        defaults |= {PRELOAD: ":".join(preloaded), "KMP_BLOCKTIME": "1"} if preloaded else {}
    else:
        # One greedy token does not need FlashInfer's sampler, which vLLM would import, and compile if nvcc exists.
        defaults |= {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
    for name, value in defaults.items():
        environment.setdefault(name, value)


def _cpus() -> str:
    return str(len(os.sched_getaffinity(0)))


def engine_arguments(config: EngineConfig, prepared: PreparedWeights) -> dict[str, Any]:
    """Return the arguments of vLLM's EngineArgs."""
    placed: dict[str, Any] = (
        {"gpu_memory_utilization": config.gpu_memory_utilization, "tensor_parallel_size": config.gpus}
        if config.gpus
        else {"kv_cache_memory_bytes": CPU_KV_CACHE_BYTES, "scheduler_cls": CPU_SCHEDULER}
    )
    return {
        "model": str(prepared.path),
        "dtype": prepared.plan.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "kv_cache_dtype": config.kv_cache_dtype,
        # the common prefix of the prompts is shorter than a block
        "enable_prefix_caching": False,
        "disable_log_stats": True,
        "enforce_eager": config.enforce_eager,
        **placed,
    }


@dataclass(frozen=True)
class _Started:
    runner: Runner
    logits: LabelLogits
    parameters: Any
    """Those of vLLM for each prompt."""


class VllmEngine:
    """Prepares the weights and runs them in vLLM. `start` imports vLLM, so that the constructor is fast."""

    def __init__(self, config: EngineConfig, scratch_dir: Path, compiled: CompiledCode | None = None) -> None:
        self._config = config
        self._scratch_dir = scratch_dir
        self._compiled = compiled
        self._started: _Started | None = None
        self._request_ids = itertools.count()

    async def start(self) -> LoadedModel:
        try:
            verified = await asyncio.to_thread(self._verify)
            prepared = await asyncio.to_thread(self._prepare)
            normal_form = read_normal_form(self._config.model_dir)
            tokenizer, logits = await asyncio.to_thread(self._read, prepared.path)
        except LabelTokenError:
            raise
        except (WeightsError, OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"the engine did not start: {error}") from error
        arguments = engine_arguments(self._config, prepared) | logits.arguments
        runner: Runner = await (SubprocessRunner if self._config.gpus else InProcessRunner).load(arguments)
        self._started = _Started(runner, logits, logits.parameters())
        import vllm

        return LoadedModel(
            tokenizer,
            runner.vocabulary,
            f"vllm {vllm.__version__}",
            prepared.plan.form,
            prepared.plan.dtype,
            verified,
            normal_form,
            runner.prefill_chunk,
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
        if not self._config.enforce_eager:
            accept_inductor_code()
            if self._compiled is not None:
                unpack(self._compiled, Path(os.environ[CACHE_VARIABLE]))
        return prepare_weights(self._config.model_dir, self._scratch_dir, read_machine(self._config.gpus))

    def _read(self, model_dir: Path) -> tuple[Tokenizer, LabelLogits]:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        labels = label_tokens(tokenizer, self._config.labels)
        return fast_tokenizer(tokenizer), label_logits(model_dir, tokenizer, labels, self._config.gpus)

    async def label_logits(self, prompt_ids: list[int], *, large: bool = False) -> tuple[float, float]:
        if self._started is None:
            raise EngineError("the engine is not running")
        started = self._started
        output = await started.runner.generate(
            str(next(self._request_ids)), prompt_ids, started.parameters, large=large
        )
        return started.logits.read(output)

    async def check(self) -> None:
        if self._started is not None and (reason := self._started.runner.failure()) is not None:
            raise EngineError(f"vLLM's engine died: {reason}")

    async def stop(self) -> None:
        if self._started is not None:
            started, self._started = self._started, None
            await started.runner.stop()
