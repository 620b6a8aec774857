"""Fine-tuning with the Hugging Face Trainer: the loss is on the label's tokens only, and so are the logits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxicity_api.spec import Labels, TrainingSpec
from toxicity_training.data import Example
from toxicity_training.scoring import build_prompts, find_label_tokens, pad_id_of, pad_left

IGNORED = -100
PROGRESS_SECONDS = 15.0
PROGRESS_SHARE = 0.1


def build_rows(tokenizer: Any, examples: Sequence[Example], spec: TrainingSpec) -> list[dict[str, list[int]]]:
    """input_ids (prompt, then the label without its last token) and targets (the label) of each example.

    The logit at the position before a label token predicts it, so the last `len(targets)` positions are trained.
    Raises ModelError for labels that cannot be told apart or a template that leaves no room for text.
    """
    find_label_tokens(tokenizer, spec.labels)
    answers = _answers(tokenizer, spec.labels)
    texts = [example.text for example in examples]
    prompts = build_prompts(
        tokenizer, spec.prompt_template, texts, spec.max_input_tokens, "training.maxInputLength"
    )
    return [
        {"input_ids": prompt + answers[example.toxic][:-1], "targets": answers[example.toxic]}
        for prompt, example in zip(prompts, examples, strict=True)
    ]


def _answers(tokenizer: Any, labels: Labels) -> dict[bool, list[int]]:
    return {
        toxic: list(tokenizer(word, add_special_tokens=False)["input_ids"])
        for toxic, word in ((True, labels.toxic), (False, labels.non_toxic))
    }


def collate(rows: Sequence[dict[str, list[int]]], pad_id: int) -> dict[str, Any]:
    """A batch padded on the left to its longest row; targets (rows x longest label) likewise, with -100."""
    import torch

    longest = max(len(row["targets"]) for row in rows)
    targets = [[IGNORED] * (longest - len(row["targets"])) + row["targets"] for row in rows]
    batch = pad_left([row["input_ids"] for row in rows], pad_id)
    return {**batch, "targets": torch.tensor(targets, dtype=torch.long)}


def train(model: Any, tokenizer: Any, examples: Sequence[Example], spec: TrainingSpec, scratch: Path) -> float:
    """Trains the adapter of `model` in place and returns the mean training loss.

    `scratch` is a writable folder; no checkpoint is written.
    """
    rows = build_rows(tokenizer, examples, spec)
    pad_id = pad_id_of(tokenizer)
    trainer = _trainer_class()(
        model=model,
        args=_arguments(spec, scratch),
        train_dataset=rows,
        data_collator=lambda batch: collate(batch, pad_id),
        processing_class=tokenizer,
    )
    _report_progress(trainer)
    return float(trainer.train().training_loss)


def _arguments(spec: TrainingSpec, scratch: Path) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=spec.epochs,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="constant_with_warmup" if spec.scheduler == "constant" else spec.scheduler,
        warmup_steps=spec.warmup_ratio,
        per_device_train_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        train_sampling_strategy="group_by_length",
        seed=spec.seed,
        use_cpu=spec.gpus == 0,
        bf16=spec.gpus > 0,
        dataloader_pin_memory=spec.gpus > 0,
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _trainer_class() -> Any:
    """A Trainer whose loss is the mean over the targets of a batch; built here since Transformers loads slowly."""
    import torch
    from transformers import Trainer

    class LabelTrainer(Trainer):  # type: ignore[misc]
        loss_is_scaled_for_ga = False

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            targets = inputs.pop("targets")
            outputs = model(**inputs, logits_to_keep=targets.shape[1], use_cache=False)
            loss = torch.nn.functional.cross_entropy(
                outputs.logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED
            )
            return (loss, outputs) if return_outputs else loss

    return LabelTrainer


def _report_progress(trainer: Any) -> None:
    """Adds progress lines: every tenth of the steps, or every 15 seconds when that is sooner."""
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = self.printed = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tenth = max(1, round(state.max_steps * PROGRESS_SHARE))
            control.should_log = (
                state.global_step % tenth == 0 or time.monotonic() - self.printed >= PROGRESS_SECONDS
            )

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
        ) -> None:
            if not logs or "loss" not in logs:
                return
            self.printed = time.monotonic()
            left = (self.printed - self.started) / state.global_step * (state.max_steps - state.global_step)
            print(
                f"training: step {state.global_step}/{state.max_steps}, loss {float(logs['loss']):.4f},"
                f" {left:.0f} s left",
                flush=True,
            )

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress())
