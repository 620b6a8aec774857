"""The progress line: the reader returns what the writer wrote and ignores all other lines."""

from __future__ import annotations

import pytest

from support.builders import progress
from toxicity_api.progress import progress_line, read_progress


def test_last_line_is_read_back_as_it_was_written() -> None:
    log = [progress_line(progress(10)), f"2030-01-01 train {progress_line(progress(20))}\n", "more words", ""]
    assert read_progress(log) == progress(20)
    assert progress_line(progress(40)) == "progress: step 40/70, epoch 0.80, loss 0.2312, 90 s left"


@pytest.mark.parametrize("loss", ["nan", "inf"])
def test_loss_that_is_not_finite_is_unset(loss: str) -> None:
    read = read_progress([f"progress: step 1/70, epoch 0.02, loss {loss}, 207 s left"])
    assert read == progress(1, loss=float(loss))
    assert read is not None and read.loss is None
    assert "loss" not in read.to_wire()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "progress: step 40/70",
        "progress: step 40/70, epoch 0.80, loss 0.2312, 90",
        "progress: step 40/70, epoch 0.8.0, loss 0.2312, 90 s left",
        "progress: step 40/70, epoch 0.80, loss ., 90 s left",
        "progress: step ٤٠/70, epoch 0.80, loss 0.2312, 90 s left",
        f"progress: step {'9' * 5000}/70, epoch 0.80, loss 0.2312, 90 s left",
        f"progress: step 40/70, epoch 0.80, loss 0.2312, {'9' * 19} s left",
    ],
)
def test_line_that_does_not_read_as_numbers_is_none(line: str) -> None:
    assert read_progress([line]) is None
