"""Engine `loop`: fine-tuning as a plain PyTorch loop; read `train` from top to bottom.

It uses the same batches, loss, optimizer and learning rates as the Trainer, so both give the same losses; a test
ensures it. As for the Trainer, accelerate handles devices, processes and mixed precision.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_training.engines.batches import IGNORED, GroupedBatches, collate, count_steps, label_loss
from toxicity_training.engines.checkpoints import checkpoint_folder, last_checkpoint, mark_complete, remove_older
from toxicity_training.engines.rows import EpochRows
from toxicity_training.engines.schedule import MAX_GRADIENT_NORM, Reporter, scheduler_name, warmup_steps
from toxicity_training.engines.validation import BestAdapter
from toxicity_training.precision import BF16, precision
from toxicity_training.tracking import Tracking

STATE = "state.pt"
LOSSES = "losses.json"


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
    from accelerate import Accelerator
    from transformers import get_scheduler

    accelerator = Accelerator(cpu=spec.gpus == 0, mixed_precision="bf16" if precision(spec) == BF16 else "no")
    if spec.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    batches = GroupedBatches(rows, spec, accelerator.num_processes)
    optimizer = _optimizer(model, spec)
    per_epoch, steps = count_steps(len(rows), spec, accelerator.num_processes)
    schedule = get_scheduler(
        scheduler_name(spec), optimizer, warmup_steps(len(rows), spec, accelerator.num_processes), steps
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, _loader(rows, batches, pad_id))

    adapted = accelerator.unwrap_model(model)
    losses = _resume(adapted, optimizer, schedule, last_checkpoint(checkpoints), best, say)
    tracking.start(losses, best.losses)
    reporter = Reporter(len(losses), steps, say, time.monotonic)
    model.train()
    stopped = False
    while len(losses) < steps and not stopped:
        epoch, done = divmod(len(losses), per_epoch)
        loader.set_epoch(epoch)  # otherwise accelerate counts epochs from the start of this process,
        batches.set_epoch(epoch)  # and with several processes does not pass the number on
        for micro_batches in _optimizer_steps(loader, spec.gradient_accumulation_steps, done):
            rate = float(schedule.get_last_lr()[0])
            losses.append(_step(accelerator, model, optimizer, schedule, micro_batches))
            stopped = best.step_done(len(losses), adapted)
            if accelerator.is_main_process:
                reporter.step_done(len(losses), len(losses) / per_epoch, losses[-1])
                tracking.step_done(len(losses), losses[-1], rate, best.losses.get(len(losses)))
                if len(losses) % spec.checkpoint_steps == 0 and not stopped:
                    _save(checkpoints, adapted, optimizer, schedule, losses, best)
            if len(losses) == steps or stopped:
                break
    best.restore(adapted)
    return losses


def _loader(rows: EpochRows, batches: GroupedBatches, pad_id: int) -> Any:
    import torch
    from torch.utils.data import DataLoader

    return DataLoader(
        rows,
        batch_sampler=batches,
        collate_fn=lambda batch: collate(batch, pad_id),
        # a separate generator: otherwise the start of an epoch would advance the one that dropout uses
        generator=torch.Generator(),
    )


def _optimizer(model: Any, spec: TrainingSpec) -> Any:
    from torch.optim import AdamW

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return AdamW(trained, lr=spec.learning_rate, weight_decay=0.0, fused=True)


def _optimizer_steps(loader: Any, accumulation: int, done: int) -> Any:
    """The micro-batches of each optimizer step of the epoch, without the first `done` steps."""
    batches = islice(iter(loader), done * accumulation, None)
    while group := list(islice(batches, accumulation)):
        yield group


def _step(accelerator: Any, model: Any, optimizer: Any, schedule: Any, micro_batches: list[Any]) -> float:
    """Runs one optimizer step; returns the mean loss of its label tokens over all processes."""
    counts = sum((batch["labels"] != IGNORED).sum() for batch in micro_batches)
    items = accelerator.gather(counts).sum()
    total = 0.0
    for number, batch in enumerate(micro_batches, start=1):
        with nullcontext() if number == len(micro_batches) else accelerator.no_sync(model):
            with accelerator.autocast():
                # DDP averages gradients over processes, but `items` counts the tokens of all of them
                loss = label_loss(model, batch, items) * accelerator.num_processes
            accelerator.backward(loss)
        total += loss.detach()
    accelerator.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    return float(accelerator.gather(total).mean())


def _save(
    checkpoints: Path, model: Any, optimizer: Any, schedule: Any, losses: Sequence[float], best: BestAdapter
) -> None:
    """Writes a complete checkpoint: adapter, optimizer, schedule, random generators, losses and validations so far."""
    import torch
    from peft import get_peft_model_state_dict

    folder = checkpoint_folder(checkpoints, len(losses))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    state = {
        "adapter": get_peft_model_state_dict(model),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    torch.save(state, folder / STATE)
    (folder / LOSSES).write_text(json.dumps(list(losses)))
    best.save(folder)
    mark_complete(folder)
    remove_older(checkpoints)


def _resume(
    model: Any,
    optimizer: Any,
    schedule: Any,
    checkpoint: Path | None,
    best: BestAdapter,
    say: Callable[[str], None],
) -> list[float]:
    """Restores a checkpoint that `_save` wrote; returns its losses, or none without a checkpoint."""
    import torch
    from peft import set_peft_model_state_dict

    if checkpoint is None:
        return []
    state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    set_peft_model_state_dict(model, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.random.set_rng_state(state["random"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    best.load(checkpoint)
    say(f"resuming from {checkpoint.name}")
    losses: list[float] = json.loads((checkpoint / LOSSES).read_text())
    return losses
