"""Stands in for the stages and for the service where the operator is tested: with one GPU in name, and by upgrades.

It runs in an image with the contract's packages, under the module names of the parts. A stage works for a few seconds
and leaves the result document that `builders` makes; the load test writes its figures; the service says that it is
ready. The seed of the training decides what else happens. `stand_in_image` builds the image, also with the packages
of an earlier version: what is imported here must be there, too.
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

from support import builders
from toxicity_api.base import API_GROUP, API_VERSION, KIND, PLURAL
from toxicity_api.results import EXIT_INVALID_INPUT, StageResult
from toxicity_api.stage_config import STAGE_CONFIG_VARIABLE

WORK_SECONDS = 8
UNLUCKY_SEED = 13
QUICK_SEED = 14
PATIENT_SEED = 15
GO_ON = Path("/tmp/go-on")
POLL_SECONDS = 0.2
FIELD_MANAGER = "toxicity-loadtest"
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


def work(part: str, seed: int | None) -> None:
    """Takes a few seconds. With the quick seed none; with the patient one the training waits for the file GO_ON."""
    if seed not in (QUICK_SEED, PATIENT_SEED):
        time.sleep(WORK_SECONDS)
    while (part, seed) == ("toxicity_training", PATIENT_SEED) and not GO_ON.exists():
        time.sleep(POLL_SECONDS)


def run_stage(part: str, config: dict[str, Any]) -> int:
    """The exit code: that of bad input for a training with the unlucky seed."""
    work(part, config.get("training", config).get("seed"))
    result: StageResult = RESULTS[part](config["fingerprint"])  # type: ignore[operator]
    code = 0
    if config.get("training", {}).get("seed") == UNLUCKY_SEED:
        failure = {"outcome": "failed", "reason": "EmptyText", "message": "an unlucky seed", "training": None}
        result, code = result.model_copy(update=failure), EXIT_INVALID_INPUT
    TERMINATION_LOG.write_text(result.to_termination_message(), encoding="utf-8")
    return code


def run_load_test(config: dict[str, Any]) -> int:
    """Writes figures under the load test's own field manager, with the rights of its own account."""
    from kubernetes import client
    from kubernetes import config as kubernetes_config

    kubernetes_config.load_incluster_config()
    bucket = {"name": "1-100", "requests": 300, "failures": 0, "actualRps": 9.98, "p95Seconds": 0.18}
    figures = {
        "fingerprint": config["fingerprint"], "runId": config["loadTest"]["runId"], "state": "Complete", "users": 16,
        "requestedRps": 10.0, "buckets": [bucket], "actualRps": 9.97, "p95Seconds": 0.19,
        "maxLengthAtRequestedRps": 100,
    }  # fmt: skip
    body = {
        "apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": KIND, "metadata": {"name": config["model"]},
        "status": {"loadTest": figures},
    }  # fmt: skip
    client.CustomObjectsApi().patch_namespaced_custom_object_status(
        API_GROUP, API_VERSION, config["namespace"], PLURAL, config["model"], body,
        field_manager=FIELD_MANAGER, force=True, _content_type="application/apply-patch+yaml",
    )  # fmt: skip
    return 0


def serve(config: dict[str, Any]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which the first process of a container ignores else
    HTTPServer(("", config["port"]), Ready).serve_forever()
    return 0


def main(part: str) -> int:
    """Plays the part of that name."""
    config = json.loads(os.environ[STAGE_CONFIG_VARIABLE])
    if part in RESULTS:
        return run_stage(part, config)
    return run_load_test(config) if part == "toxicity_loadtest" else serve(config)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).stem))
