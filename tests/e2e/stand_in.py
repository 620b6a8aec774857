"""Stands in for the stages and for the service where the GPU is one in name only: here the scheduling is tested.

It runs in an image with the contract's packages, under the module names of the parts. A stage works for a few seconds
and leaves the result document that `builders` makes; the service says that it is ready.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import builders
from toxicity_api.results import EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE

WORK_SECONDS = 8
UNLUCKY_SEED = 13
TERMINATION_LOG = Path("/dev/termination-log")
RESULTS = {
    "toxicity_training": builders.training_result,
    "toxicity_quantization": builders.quantization_result,
    "toxicity_evaluation": builders.evaluation_result,
}


class Ready(BaseHTTPRequestHandler):
    """Answers every question with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def run_stage(part: str, config: dict[str, Any]) -> int:
    """The exit code: that of bad input for a training with the unlucky seed."""
    time.sleep(WORK_SECONDS)
    result: StageResult = RESULTS[part](config["fingerprint"])  # type: ignore[operator]
    code = 0
    if config.get("training", {}).get("seed") == UNLUCKY_SEED:
        failure = {"outcome": "failed", "reason": "EmptyText", "message": "an unlucky seed", "training": None}
        result, code = result.model_copy(update=failure), EXIT_INVALID_INPUT
    TERMINATION_LOG.write_text(result.to_termination_message(), encoding="utf-8")
    return code


def main(part: str) -> int:
    """Plays the part of that name."""
    config = json.loads(os.environ[STAGE_CONFIG_VARIABLE])
    if part in RESULTS:
        return run_stage(part, config)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which the first process of a container ignores else
    HTTPServer(("", config["port"]), Ready).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).stem))
