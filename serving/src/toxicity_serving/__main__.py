"""Runs the service: `python -m toxicity_serving`, configured by STAGE_CONFIG (toxicity_api ServingConfig)."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, TERMINATION_MESSAGE_LIMIT

if TYPE_CHECKING:
    from toxicity_api.stage_config import ServingConfig

logger = logging.getLogger("toxicity_serving")

TERMINATION_LOG = Path("/dev/termination-log")


def main() -> int:
    """The exit code: 0 after a stop that was asked for, 1 when the service failed, 42 on a bad configuration."""
    argparse.ArgumentParser(prog="python -m toxicity_serving", description=__doc__).parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    from pydantic import ValidationError

    from toxicity_api.stage_config import ServingConfig, parse_stage_config

    try:
        config = parse_stage_config(ServingConfig, dict(os.environ))
    except (KeyError, ValidationError) as error:
        report_failure(f"STAGE_CONFIG is missing or wrong: {error}")
        return EXIT_INVALID_INPUT
    return serve(config)


def serve(config: ServingConfig) -> int:
    """Serves until SIGTERM or failure."""
    from toxicity_serving.app import create_app
    from toxicity_serving.server import DrainingServer
    from toxicity_serving.vllm_engine import VllmEngine, set_vllm_environment

    set_vllm_environment(os.environ, config.gpus)
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        report_failure(reason)
        server.should_exit = True

    engine = VllmEngine(config, Path(tempfile.gettempdir()) / "weights")
    server = DrainingServer(create_app(config, engine, fail), config.port)
    server.run()
    return EXIT_FAILED if failures else 0


def report_failure(reason: str) -> None:
    """To the log, and to the container's termination message where Kubernetes mounts one."""
    logger.error("failed reason=%r", reason)
    if TERMINATION_LOG.exists():
        TERMINATION_LOG.write_bytes(reason.encode()[:TERMINATION_MESSAGE_LIMIT])


if __name__ == "__main__":
    raise SystemExit(main())
