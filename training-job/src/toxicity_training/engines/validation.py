"""Validation during training: keeps the adapter with the lowest loss on the validation rows, and stops early.

Both engines call `step_done` after each optimizer step, `save` and `load` with their checkpoints, and `restore` at the
end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toxicity_api.spec import TrainingSpec
from toxicity_stage.ranks import value_of_first
from toxicity_training.engines.batches import count_steps

HISTORY_FILE, BEST_FILE = "validation.json", "best.safetensors"


class BestAdapter:
    """The validations of a training on `rows` rows so far, and the adapter of the best one.

    `loss` is that of a model on the validation rows; lower is better.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        rows: int,
        processes: int,
        loss: Callable[[Any], float],
        say: Callable[[str], None],
    ) -> None:
        self.losses: dict[int, float] = {}
        self._spec = spec.early_stopping
        self._steps_per_epoch, self._steps = count_steps(rows, spec, processes)
        self._loss = loss
        self._say = say
        self._adapter: dict[str, Any] = {}

    @property
    def best_step(self) -> int | None:
        """The step of the lowest loss, the first of equal ones; None before the first validation."""
        return min(self.losses, key=lambda step: self.losses[step], default=None)

    def step_done(self, step: int, model: Any) -> bool:
        """Validates `model` if that is due after `step`, counted from 1; returns whether the training should stop."""
        if not is_due(step, self._steps, self._steps_per_epoch, self._spec.validations_per_epoch):
            return False
        # the processes have equal weights, but must not decide by different roundings
        self.losses[step] = value_of_first(self._loss(model))
        model.train()
        if self.best_step == step:
            self._adapter = _adapter_of(model)
        self._say(f"validation: step {step}, loss {self.losses[step]:.4f}, best at step {self.best_step}")
        return is_exhausted(list(self.losses.values()), self._spec.patience)

    def restore(self, model: Any) -> None:
        """Gives `model` the best adapter; leaves it as it is without a validation."""
        if not self._adapter:
            return
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, self._adapter)

    def save(self, folder: Path) -> None:
        """Writes its state into the folder of a checkpoint."""
        from safetensors.torch import save_file

        (folder / HISTORY_FILE).write_text(json.dumps(list(self.losses.items())), encoding="utf-8")
        if self._adapter:
            save_file(self._adapter, folder / BEST_FILE)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote; an earlier release wrote checkpoints without it."""
        from safetensors.torch import load_file

        if (folder / HISTORY_FILE).is_file():
            self.losses = dict(json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8")))
        if (folder / BEST_FILE).is_file():
            self._adapter = load_file(folder / BEST_FILE)


def is_due(step: int, steps: int, steps_per_epoch: int, validations_per_epoch: int) -> bool:
    """Whether a validation follows `step`: they are evenly spaced, and one is after the last step."""
    if not validations_per_epoch:
        return False
    done, before = (each * validations_per_epoch // steps_per_epoch for each in (step, step - 1))
    return done > before or step == steps


def is_exhausted(losses: list[float], patience: int) -> bool:
    """Whether the last `patience` losses are not lower than the lowest one before."""
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _adapter_of(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    return {name: tensor.detach().cpu().clone() for name, tensor in get_peft_model_state_dict(model).items()}
