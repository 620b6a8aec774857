"""The AWQ libraries behind one interface; each has a module `with_*` and a container image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from toxicity_api.spec import QuantizationSpec
from toxicity_quantization import with_autoawq, with_llm_compressor


class Backend(Protocol):
    """The interface of a module `with_*`; it imports its library lazily."""

    def known_architectures(self) -> list[str]:
        """The architectures that it can quantize, by their names in config.json."""

    def load(self, folder: Path, *, gpus: int) -> tuple[Any, Any]:
        """(model, tokenizer) of a folder with merged weights or of one that `save` wrote.

        fp32 on the CPU, bf16 on the accelerator if `gpus` > 0.
        """

    def quantize(self, model: Any, prompts: Sequence[Sequence[int]], spec: QuantizationSpec) -> None:
        """Quantizes the linear layers of `model` in place; `prompts` are token ids of calibration texts.

        Raises ModelError if quantization.groupSize does not fit every layer.
        """

    def save(self, model: Any, folder: Path) -> None:
        """Saves the quantized weights and a config.json that describes their packing."""


BACKENDS: Mapping[str, Backend] = {"llm-compressor": with_llm_compressor, "autoawq": with_autoawq}
"""By quantization.backend."""
