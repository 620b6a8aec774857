"""What vLLM compiled for a model, as one file: left by the evaluation, taken over by the pods that serve.

Compiling takes a minute, and one pod after the other would do the same. vLLM finds its work again under a hash of the
model, its own settings and the machine's; what does not fit is compiled anew.

The file is code. So it is taken over only with the sha256 that came from the operator, who has it from the
evaluation itself and not from the volume: who can write to the volume cannot make a pod run something.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from toxicity_api.stage_config import CompiledCode

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "VLLM_CACHE_ROOT"


def default_cache() -> Path:
    """Where vLLM keeps what it compiled: scratch, and the same path for whoever leaves and whoever takes over."""
    return Path(tempfile.gettempdir()) / "vllm"


def pack(cache: Path, target: Path) -> str | None:
    """Writes all of vLLM's `cache` to the zip file `target`; its sha256 in hex, or None when there is nothing."""
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    if not files:
        return None
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(cache))
    return hashlib.sha256(target.read_bytes()).hexdigest()


def unpack(code: CompiledCode, cache: Path) -> bool:
    """Puts what was packed into `cache`, or says in the log why not: the engine then compiles by itself."""
    try:
        found = code.path.read_bytes()
    except OSError as error:
        logger.warning("compiled_code_missing reason=%r", str(error))
        return False
    if (digest := hashlib.sha256(found).hexdigest()) != code.sha256:
        logger.warning("compiled_code_refused path=%s sha256=%s expected=%s", code.path, digest, code.sha256)
        return False
    with ZipFile(io.BytesIO(found)) as archive:
        archive.extractall(cache)
    logger.info("compiled_code_taken path=%s bytes=%d", code.path, len(found))
    return True


def accept_inductor_code() -> None:
    """Lets vLLM 0.32 load what it saved on a CPU.

    Its loader calls `finalize_loading`, which only the functions of its GPU backend have; without it the saved function
    is thrown away and traced again for half a minute. Those of plain Inductor, the CPU's, have nothing to finalize.
    """
    import torch

    load: Any = torch.compiler.load_compiled_function

    def load_finalizable(*arguments: Any, **options: Any) -> Any:
        function = load(*arguments, **options)
        compiled = function._artifacts.compiled_fn
        if not hasattr(compiled, "finalize_loading"):
            compiled.finalize_loading = lambda config: None
        return function

    torch.compiler.load_compiled_function = load_finalizable
