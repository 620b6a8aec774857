"""Pack the code that vLLM compiled for a model into one file, and unpack it in the serving pods.

The evaluation stage writes the file. Without it, each pod compiles for a minute. vLLM looks up compiled code by a hash
of the model, vLLM's settings and the machine, and compiles what it does not find.

The file contains code. A pod uses it only when its sha256 matches the one from the operator, which the evaluation
reported directly. Write access to the volume is therefore not enough to run code in a pod.
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
    """Return vLLM's cache folder: temporary storage, at the same path in the evaluation and in the serving pods."""
    return Path(tempfile.gettempdir()) / "vllm"


def pack(cache: Path, target: Path) -> str | None:
    """Write vLLM's `cache` to the zip file `target`. Returns its sha256 in hex, or None when the cache is empty."""
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    if not files:
        return None
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(cache))
    return hashlib.sha256(target.read_bytes()).hexdigest()


def unpack(code: CompiledCode, cache: Path) -> bool:
    """Unpack compiled code into `cache`, and return whether it was usable.

    A missing file or a wrong checksum is logged. The engine then compiles the model itself.
    """
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
    """Patch torch so that vLLM 0.32 loads the functions that it saved on a CPU.

    vLLM's loader calls `finalize_loading`, which only functions of its GPU backend have. Without that method it
    discards the saved function and traces it again for half a minute. Functions of plain Inductor, which the CPU uses,
    have nothing to finalize. Remove this when vLLM's loader accepts them.
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
