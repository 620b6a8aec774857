"""Write a random Gemma 3 with two small layers and a genuine tokenizer: the engine costs little, the API the same.

`python -m benchmarks.tiny_model --base FOLDER --output FOLDER`, with the packages of the training image.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from toxicity_api.checksums import write_checksums


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="folder of a Gemma 3 model")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; kept if it exists")
    options = parser.parse_args()
    if not options.output.exists():
        partial = options.output.with_name(f"{options.output.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(options.base, partial)
        partial.rename(options.output)
    return 0


def write(base: Path, output: Path) -> None:
    """Write the model and its checksums to the new folder `output`."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, Gemma3ForCausalLM

    config = AutoConfig.from_pretrained(base)
    config.update(
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
        }
    )
    torch.manual_seed(0)
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(output)
    AutoTokenizer.from_pretrained(base).save_pretrained(output)
    write_checksums(output)


if __name__ == "__main__":
    raise SystemExit(main())
