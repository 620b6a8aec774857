"""Training ends with the adapter of the best validation, stops early, and resumes with what it knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.training.gpu_device import narrower_than_a_block
from support.training.tiny import forget_accelerator, make_examples, untracked
from toxicity_api.spec import EarlyStopping, TrainingSpec
from toxicity_training.engines.checkpoints import last_checkpoint
from toxicity_training.engines.rows import training_rows
from toxicity_training.engines.validation import BestAdapter
from toxicity_training.evaluation.scoring import validation_loss
from toxicity_training.model import add_lora, load_model
from toxicity_training.prompts import pad_id_of
from toxicity_training.stage import engine

pytestmark = pytest.mark.engine

MakeSpec = Callable[..., TrainingSpec]
ENGINES = pytest.mark.parametrize("name", ["trainer", "loop"])
ROWS = 96


def adapter_of(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    return {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


class Given:
    """Gives the losses of a list, one for each validation, and keeps the adapters that it saw."""

    def __init__(self, losses: list[float]) -> None:
        self.left = list(losses)
        self.seen: list[dict[str, Any]] = []

    def __call__(self, model: Any) -> float:
        self.seen.append(adapter_of(model))
        return self.left.pop(0)


def train(
    base_model: Path, spec: TrainingSpec, checkpoints: Path, loss: Callable[[Any], float]
) -> tuple[Any, list[float], BestAdapter]:
    from transformers import set_seed

    forget_accelerator()
    set_seed(spec.seed)
    model, tokenizer = load_model(base_model, spec)
    adapted = add_lora(model, spec)
    rows = training_rows(tokenizer, make_examples(ROWS), spec)
    best = BestAdapter(spec, ROWS, 1, loss, print)
    losses = engine(spec)(adapted, rows, pad_id_of(tokenizer), spec, checkpoints, print, best, untracked())
    return adapted, losses, best


@ENGINES
def test_the_best_adapter_is_kept_and_the_training_stops_when_patience_is_exhausted(
    base_model: Path, make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    stopping = EarlyStopping(validations_per_epoch=3, patience=2)
    given = Given([0.5, 0.3, 0.3, 0.4])
    spec = make_spec(engine=name, epochs=2, early_stopping=stopping, checkpoint_steps=4)
    model, losses, best = train(base_model, spec, tmp_path, given)
    assert best.losses == {4: 0.5, 8: 0.3, 12: 0.3, 16: 0.4}
    assert best.best_step == 8
    assert len(losses) == 16
    assert not same(given.seen[1], given.seen[3])
    assert same(adapter_of(model), given.seen[1])
    # a training that is killed after it stopped resumes before it, and stops again
    newest = last_checkpoint(tmp_path)
    assert newest is not None and newest.name == "checkpoint-12"
    again = Given([0.4])
    model, losses, best = train(base_model, spec, tmp_path, again)
    assert best.losses == {4: 0.5, 8: 0.3, 12: 0.3, 16: 0.4}
    assert len(losses) == 16
    assert same(adapter_of(model), given.seen[1])


@narrower_than_a_block
@ENGINES
@pytest.mark.parametrize("four_bit", [False, True], ids=["whole", "4bit"])
def test_validation_changes_no_loss_of_the_training(
    base_model: Path, make_spec: MakeSpec, tmp_path: Path, name: str, *, four_bit: bool
) -> None:
    def measured(model: Any) -> float:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(base_model)
        return validation_loss(model, tokenizer, make_examples(30, seed=5), make_spec())

    without, with_it = (
        make_spec(
            engine=name,
            load4bit=four_bit,
            dropout=0.1,
            early_stopping=EarlyStopping(validations_per_epoch=number, patience=9),
        )
        for number in (0, 6)
    )
    _, plain, unvalidated = train(base_model, without, tmp_path / "without", measured)
    _, watched, best = train(base_model, with_it, tmp_path / "with", measured)
    assert plain == watched
    assert unvalidated.best_step is None
    assert len(best.losses) == 6
    assert len(set(best.losses.values())) == 6
