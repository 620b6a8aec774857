"""A checkpoint of several processes is marked only after each of them has written its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toxicity_api.spec import TrainingSpec
from toxicity_stage.artifacts import CHECKPOINT_MARK

pytestmark = pytest.mark.engine

SLOW_PROCESS = """
import os, sys
from pathlib import Path
from threading import Event
from support.training.tiny import last_adapter, make_examples, untracked
from toxicity_api.spec import TrainingSpec
from toxicity_training.engines import trainer
from toxicity_training.engines.rows import training_rows
from toxicity_training.model import add_lora, load_model
from toxicity_training.prompts import pad_id_of
from transformers import Trainer

base, checkpoints, document = sys.argv[1:]
save = Trainer._save_rng_state

def save_late(self, folder):
    # the second process waits until the checkpoint is marked too early, but not for ever
    for _ in range(30):
        if os.environ["RANK"] == "0" or (Path(folder) / "complete").exists():
            break
        Event().wait(0.1)
    save(self, folder)

Trainer._save_rng_state = save_late
spec = TrainingSpec.model_validate_json(document)
model, tokenizer = load_model(Path(base), spec)
rows = training_rows(tokenizer, make_examples(32), spec)
best = last_adapter(spec, 32)
trainer.train(add_lora(model, spec), rows, pad_id_of(tokenizer), spec, Path(checkpoints), print, best, untracked())
"""


def test_a_checkpoint_is_marked_after_all_processes_have_written_to_it(
    base_model: Path,
    make_spec: Callable[..., TrainingSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    script = tmp_path / "train.py"
    script.write_text(SLOW_PROCESS)
    spec = make_spec(batch_size=4, checkpoint_steps=4)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    command += [str(base_model), str(tmp_path / "checkpoints"), spec.model_dump_json(by_alias=True)]
    subprocess.run(command, check=True, timeout=300)
    marked = json.loads((tmp_path / "checkpoints" / "checkpoint-4" / CHECKPOINT_MARK).read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(marked)
