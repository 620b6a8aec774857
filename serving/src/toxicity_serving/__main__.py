"""Run the service: `python -m toxicity_serving`, configured by STAGE_CONFIG (ServingConfig in toxicity_api)."""

from __future__ import annotations

import argparse
import logging
import os
import string
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, TERMINATION_MESSAGE_LIMIT

if TYPE_CHECKING:
    from toxicity_api.stage_config import ServingConfig
    from toxicity_serving.engine.protocol import Engine

logger = logging.getLogger("toxicity_serving")

TERMINATION_LOG = Path("/dev/termination-log")
TOKEN_VARIABLE = "API_TOKEN"


def main() -> int:
    """Return the exit code: 0 after SIGTERM, 1 when the service failed, 42 when the configuration is invalid."""
    argparse.ArgumentParser(prog="python -m toxicity_serving", description=__doc__).parse_args()
    configure_logs()
    from toxicity_api.stage_config import ServingConfig, StageConfigError, parse_stage_config

    try:
        config = parse_stage_config(ServingConfig, os.environ)
        require_build(config.gpus)
        prepare_process(config.gpus)
        token = take_token(os.environ)
    except (StageConfigError, ImageWithoutCudaError, EmptyTokenError) as error:
        report_failure(str(error), TERMINATION_LOG)
        return EXIT_INVALID_INPUT
    from toxicity_serving.engine.vllm import VllmEngine
    from toxicity_serving.engine.weights import default_scratch

    engine = VllmEngine(config, default_scratch(), config.compiled)
    return serve(config, engine, token, TERMINATION_LOG)


class ImageWithoutCudaError(ValueError):
    """GPUs are requested, and the image has the CPU build of torch."""


def require_build(gpus: int) -> None:
    """Raise ImageWithoutCudaError if the engine could not use the GPUs: vLLM's CPU build would ignore them."""
    from toxicity_api.torch_build import refuse_cpu_build

    problem = refuse_cpu_build(gpus, "serving.gpus")
    if problem:
        raise ImageWithoutCudaError(problem)


def configure_logs() -> None:
    """Log to stderr, and each request as a line of JSON to stdout."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    access = logging.getLogger("toxicity_serving.access")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.addHandler(handler)
    access.propagate = False


def prepare_process(gpus: int) -> None:
    """Set vLLM's environment variables. Re-executes this process once when LD_PRELOAD changes."""
    from toxicity_serving.engine.vllm import PRELOAD, set_vllm_environment

    before = os.environ.get(PRELOAD)
    set_vllm_environment(os.environ, gpus)
    if os.environ.get(PRELOAD) != before:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class EmptyTokenError(ValueError):
    """The configured API token is empty."""


def take_token(environment: MutableMapping[str, str]) -> str | None:
    """Remove the API token from `environment`, so that no child process inherits it, and return it.

    Returns None when it is unset. Raises EmptyTokenError when it is blank.
    """
    token = environment.pop(TOKEN_VARIABLE, None)
    if token is None:
        return None
    if not token.strip():
        raise EmptyTokenError(
            f"{TOKEN_VARIABLE} is empty: set the key token in the Secret that serving.apiTokenSecretName names"
        )
    # Strip ASCII white space only, as TokenMiddleware does: a header value can end in a Unicode space.
    return token.strip(string.whitespace)


def serve(
    config: ServingConfig,
    engine: Engine,
    token: str | None,
    termination_log: Path,
    drain_seconds: float | None = None,
) -> int:
    """Serve until SIGTERM or a failure, and return the exit code. Writes a failure's reason to `termination_log`."""
    from toxicity_serving.http.app import create_app
    from toxicity_serving.http.server import DRAIN_SECONDS, DrainingServer, listen

    failures: list[str] = []
    try:
        listener = listen(config.port)
    except OSError as error:
        report_failure(f"port: cannot listen on {config.port}: {os.strerror(error.errno or 0)}", termination_log)
        return EXIT_FAILED

    def fail(reason: str) -> None:
        failures.append(reason)
        report_failure(reason, termination_log)
        server.should_exit = True

    app = create_app(config, engine, fail, token=token)
    server = DrainingServer(app, DRAIN_SECONDS if drain_seconds is None else drain_seconds)
    server.run([listener])
    return EXIT_FAILED if failures else 0


def report_failure(reason: str, termination_log: Path) -> None:
    """Log the reason, and write it to the container's termination message where Kubernetes mounts one."""
    logger.error("failed reason=%r", reason)
    if termination_log.exists():
        termination_log.write_bytes(reason.encode()[:TERMINATION_MESSAGE_LIMIT])


if __name__ == "__main__":
    raise SystemExit(main())
