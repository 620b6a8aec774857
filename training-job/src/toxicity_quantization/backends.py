"""The libraries that run AWQ behind one interface: each has a module `with_*`, and an image with its own packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization import with_autoawq, with_llm_compressor


class Backend(Protocol):
    """What a module `with_*` offers; its library is loaded by the calls, not by the import."""

    def known_architectures(self) -> list[str]:
        """The architectures, by their names in config.json, that it can quantize."""

    def load(self, folder: Path, *, gpus: int) -> tuple[Any, Any]:
        """(model, tokenizer) of a folder with merged weights or with what `save` wrote; fp32 on CPU, bf16 on the
        accelerator when `gpus` > 0."""

    def quantize(self, model: Any, prompts: Sequence[Sequence[int]], spec: QuantizationSpec) -> None:
        """Quantizes the linear layers of `model` in place; `prompts` are token ids of calibration texts.

        Raises ModelError when quantization.groupSize fits not every layer.
        """

    def save(self, model: Any, folder: Path) -> None:
        """The quantized weights and a config.json that says how they are packed."""


BACKENDS: Mapping[str, Backend] = {"llm-compressor": with_llm_compressor, "autoawq": with_autoawq}
"""By quantization.backend."""
