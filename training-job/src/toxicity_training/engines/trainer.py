"""Engine `trainer`: fine-tuning with the Hugging Face Trainer, on grouped batches and with the label loss."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_stage.ranks import processes
from toxicity_training.engines.batches import GroupedBatches, collate, count_steps, label_loss
from toxicity_training.engines.checkpoints import KEPT, checkpoint_folder, last_checkpoint, mark_complete
from toxicity_training.engines.rows import EpochRows
from toxicity_training.engines.schedule import MAX_GRADIENT_NORM, Reporter, scheduler_name, warmup_steps
from toxicity_training.engines.validation import BestAdapter
from toxicity_training.precision import BF16, precision
from toxicity_training.tracking import Tracking


def train(
    model: Any,
    rows: EpochRows,
    pad_id: int,
    spec: TrainingSpec,
    checkpoints: Path,
    say: Callable[[str], None],
    best: BestAdapter,
    tracking: Tracking,
) -> list[float]:
    """Trains the adapter of `model` in place; returns the mean loss of each optimizer step, also of resumed ones.

    Resumes from the newest complete checkpoint in `checkpoints` and writes its own there. Stops when `best` says so,
    and ends with its adapter. The main process tells each step to `tracking`.
    """
    trainer = _trainer_class()(
        model=model,
        args=_arguments(spec, len(rows), checkpoints),
        train_dataset=rows,
        data_collator=lambda batch: collate(batch, pad_id),
    )
    trainer.batches = GroupedBatches(rows, spec, trainer.args.world_size)
    steps_per_epoch = count_steps(len(rows), spec, trainer.args.world_size)[0]
    _replace_callbacks(trainer, steps_per_epoch, best, tracking, say)
    resumed = last_checkpoint(checkpoints)
    if resumed is not None:
        best.load(resumed)
        say(f"resuming from {resumed.name}")
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    best.restore(model)
    return _losses(trainer.state)


def _arguments(spec: TrainingSpec, rows: int, checkpoints: Path) -> Any:
    from transformers import TrainingArguments

    together = processes(os.environ)
    return TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=spec.epochs,
        learning_rate=spec.learning_rate,
        lr_scheduler_type=scheduler_name(spec),
        warmup_steps=warmup_steps(rows, spec, together),
        max_grad_norm=MAX_GRADIENT_NORM,
        per_device_train_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if spec.gradient_checkpointing else None,
        seed=spec.seed,
        use_cpu=spec.gpus == 0,
        ddp_backend=None if together == 1 else "nccl" if spec.gpus else "gloo",
        ddp_find_unused_parameters=False,
        bf16=precision(spec) == BF16,
        dataloader_pin_memory=spec.gpus > 0,
        remove_unused_columns=False,
        # log every step: the result reports the mean of all losses
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=spec.checkpoint_steps,
        save_total_limit=KEPT,
        report_to="none",
        disable_tqdm=True,
    )


def _trainer_class() -> Any:
    """A Trainer with grouped batches and the label loss; defined here because Transformers imports slowly."""
    from torch.utils.data import DataLoader
    from transformers import Trainer

    class LabelTrainer(Trainer):  # type: ignore[misc]
        loss_is_scaled_for_ga = True
        batches: GroupedBatches

        def get_train_dataloader(self) -> Any:
            loader = DataLoader(
                self.train_dataset,
                batch_sampler=self.batches,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
            return self.accelerator.prepare(loader)

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # DDP averages gradients over processes, but the count covers the tokens of all of them
            return label_loss(model, inputs, num_items_in_batch) * self.accelerator.num_processes

    return LabelTrainer


def _losses(state: Any) -> list[float]:
    """The mean loss of each step, also of those before a checkpoint."""
    return [float(entry["loss"]) for entry in state.log_history if "loss" in entry]


def _replace_callbacks(
    trainer: Any, steps_per_epoch: int, best: BestAdapter, tracking: Tracking, say: Callable[[str], None]
) -> None:
    """Replaces the Trainer's printing by progress lines; selects each epoch's batches, validates, marks checkpoints."""
    from transformers import PrinterCallback, TrainerCallback

    class Lines(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tracking.start(_losses(state), best.losses)
            self.reporter = Reporter(state.global_step, state.max_steps, say, time.monotonic)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # the Trainer does not reach them through the wrappers of several processes and of a resumed epoch
            trainer.batches.set_epoch(state.global_step // steps_per_epoch)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
            if best.step_done(state.global_step, model):
                control.should_training_stop = True
                control.should_save = False  # from it, a training would resume after its end
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs and state.is_world_process_zero:
                step, loss = state.global_step, float(logs["loss"])
                self.reporter.step_done(step, float(state.epoch), loss)
                tracking.step_done(step, loss, float(logs["learning_rate"]), best.losses.get(step))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            trainer.accelerator.wait_for_everyone()  # each process writes the state of its random generators
            if state.is_world_process_zero:
                folder = checkpoint_folder(Path(args.output_dir), state.global_step)
                best.save(folder)
                mark_complete(folder)

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Lines())
