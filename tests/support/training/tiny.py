"""A tiny Gemma 3 with a word tokenizer, and comments that it can learn, for tests with torch."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from toxicity_api.spec import EarlyStopping, TrainingSpec
from toxicity_training.dataset import Example
from toxicity_training.engines.validation import BestAdapter
from toxicity_training.tracking import Tracking

INSULTS = ("дурак", "болван", "осёл", "тупица")
PLAIN = ("книга", "погода", "чай", "дорога", "музыка")
WORDS = (*INSULTS, *PLAIN, "да", "нет", "токсичный", "текст", "ответ", ":", " ", "\n")


SPELLED, ALIKE = "чай <eos> чай<bos>", "чай ?x? чай?x?"
"""A text with the names of control tokens, and one with as many unknown characters instead."""


def make_examples(rows: int, seed: int = 1) -> list[Example]:
    """Rows of three to twelve words; a third is toxic and contains an insult."""
    random = Random(seed)
    examples = []
    for number in range(rows):
        toxic = number % 3 == 0
        words = [random.choice(PLAIN) for _ in range(random.randint(2, 11))]
        words.insert(random.randint(0, len(words)), random.choice(INSULTS if toxic else PLAIN))
        examples.append(Example(" ".join([*words, str(number)]), toxic))
    return examples


def write_dataset(path: Path, examples: Iterable[Example]) -> Path:
    """Write `examples` as a CSV file with the columns of the default spec, and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["comment", "toxic"])
        writer.writerows([example.text, int(example.toxic)] for example in examples)
    return path


def write_base_model(
    folder: Path, *, hidden_size: int = 32, intermediate_size: int = 64, head_dim: int = 16
) -> None:
    """A random Gemma 3 with two layers, seeded, and a tokenizer with one token a word."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\W"), "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    configuration = Gemma3TextConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=head_dim,
        sliding_window=64,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        # the output words are the frozen input words: with small ones no hidden state could be sure of anything
        initializer_range=0.3,
    )
    Gemma3ForCausalLM(configuration).save_pretrained(folder)


def last_adapter(spec: TrainingSpec, rows: int) -> BestAdapter:
    """Validates nothing and keeps the last adapter."""

    def loss(model: Any) -> float:
        raise AssertionError("nothing is validated")

    unvalidated = spec.model_copy(update={"early_stopping": EarlyStopping(validations_per_epoch=0)})
    return BestAdapter(unvalidated, rows, 1, loss, print)


def untracked() -> Tracking:
    """Records no curve."""
    return Tracking([], print)


def forget_accelerator() -> None:
    """Resets accelerate, whose state is per process: a test runs several trainings in one process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
