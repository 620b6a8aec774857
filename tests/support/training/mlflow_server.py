"""A real MLflow server on loopback, in an environment that uv caches: its packages exclude some of the tests'."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx

from support.ports import free_ports
from toxicity_cluster.demo_kubectl import wait_until

START_SECONDS = 180.0
"""The first start of a machine downloads and compiles the packages."""
LOGIN = ("admin", "a-password-of-tests")
VARIABLES = {
    "MLFLOW_AUTH_ADMIN_PASSWORD": LOGIN[1],
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-key-of-tests",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@contextmanager
def mlflow_server(folder: Path, *, with_login: bool = False) -> Iterator[str]:
    """The URL of a server that keeps everything in `folder`; `with_login` admits only LOGIN."""
    uv, (port,) = Path(sys.executable).with_name("uv"), free_ports(1)
    package = f"mlflow{'[auth]' if with_login else ''}=={version('mlflow-skinny')}"
    places = (
        "--backend-store-uri",
        f"sqlite:///{folder}/runs.db",
        "--artifacts-destination",
        str(folder / "files"),
    )
    login = ("--app-name", "basic-auth") if with_login else ()
    command = [
        str(uv),
        "tool",
        "run",
        "--from",
        package,
        "mlflow",
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *places, *login],
            cwd=folder,  # where it keeps its users
            env={**os.environ, **VARIABLES},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until("the MLflow server", lambda: _answers(f"{url}/health"), START_SECONDS, 0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
