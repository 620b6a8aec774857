"""Downloads artifacts for the serving pods: `python -m toxicity_store fetch|watch`, configured by STAGE_CONFIG.

`fetch` is the init container: it ends when the model is complete and verified. `watch` is the sidecar: it adds the
results of new load tests until SIGTERM. The server itself has no credentials.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from toxicity_api.results import EXIT_FAILED, EXIT_INVALID_INPUT, TERMINATION_MESSAGE_LIMIT
from toxicity_api.stage_config import FetchConfig, StageConfigError, parse_stage_config
from toxicity_store.artifacts import BucketStore
from toxicity_store.cache import FileCache
from toxicity_store.client import add_secrets_argument, connect
from toxicity_store.errors import ArtifactDamaged, StoreError

TERMINATION_LOG = Path("/dev/termination-log")
WATCH_SECONDS = 60.0

logger = logging.getLogger("toxicity_store")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    try:
        config = parse_stage_config(FetchConfig, os.environ)
        cache = FileCache(config.cache.path, config.cache.size_bytes) if config.cache else None
        store = BucketStore(connect(config.object_store, options.object_store_secrets), cache=cache)
        if options.command == "watch":
            watch(store, config, _until_sigterm(), options.watch_seconds)
        else:
            fetch(store, config)
    except (StageConfigError, StoreError, OSError) as error:
        logger.error("%s", error)
        options.termination_log.write_bytes(str(error).encode()[:TERMINATION_MESSAGE_LIMIT])
        return _exit_code(error)
    return 0


def _exit_code(error: StageConfigError | StoreError | OSError) -> int:
    if isinstance(error, StoreError):
        return error.exit_code
    return EXIT_INVALID_INPUT if isinstance(error, StageConfigError) else EXIT_FAILED


def fetch(store: BucketStore, config: FetchConfig) -> None:
    """Downloads the inputs, and the load tests so far. Raises StoreError."""
    for folder in config.inputs:
        store.fetch(folder.path, folder.parts)
        logger.info("%s is complete", folder.path.name)
    add_new(store, config)


def watch(store: BucketStore, config: FetchConfig, ended: threading.Event, seconds: float) -> None:
    """Adds new artifacts until `ended`. A failure is logged, and the next round tries again."""
    while not ended.wait(seconds):
        try:
            add_new(store, config)
        except (StoreError, OSError) as error:
            logger.warning("not_updated error=%s", error)


def add_new(store: BucketStore, config: FetchConfig) -> None:
    """Downloads the watched artifacts that the pod lacks, with the time at which each was published."""
    for name in store.client.list_names():
        folder = config.artifacts / name
        if not name.startswith(f"{config.watched}-") or folder.is_dir():
            continue
        published_at = store.published_at(name)
        if published_at is None:
            continue
        try:
            store.fetch(folder, config.watched_parts)
        except ArtifactDamaged as error:  # the page shows the other load tests
            logger.warning("not_added name=%s error=%s", name, error)
            continue
        os.utime(folder, (published_at, published_at))
        logger.info("%s is added", name)


def _until_sigterm() -> threading.Event:
    """An event that SIGTERM sets. The first process of a container ignores SIGTERM by default."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    return ended


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m toxicity_store", description=(__doc__ or "").split(":")[0])
    parser.add_argument("command", choices=["fetch", "watch"])
    add_secrets_argument(parser)
    parser.add_argument(
        "--termination-log", type=Path, default=TERMINATION_LOG, help="file for the message of a failure"
    )
    parser.add_argument(
        "--watch-seconds",
        type=float,
        default=WATCH_SECONDS,
        help="time between two looks at the store, in seconds",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
