"""Finds the login to a registry that docker, podman or buildah has stored, and makes a pull Secret of it.

The formats are those of docker's config.json and of containers-auth.json(5).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toxicity_cluster.commands import run
from toxicity_cluster.errors import CommandFailed, Refusal

DOCKER_HUB = "docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""The key of Docker Hub in the files and in a pull Secret."""

TOKEN_USER = "<token>"
"""The user name with which a credential helper returns an identity token instead of a password."""

NAME_A_SECRET = "create a pull Secret in the cluster and name it with PULL_SECRET"


@dataclass(frozen=True)
class Login:
    """A user and a password for a registry; `source` is the file that has it or names its credential helper."""

    username: str
    password: str = field(repr=False)
    source: str


def login_files(program: str, environment: Mapping[str, str], home: Path, uid: int) -> list[Path]:
    """The files in which docker, podman or buildah looks for a login, in this order."""
    docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    if program == "docker":
        return [docker]
    if environment.get("REGISTRY_AUTH_FILE"):
        return [Path(environment["REGISTRY_AUTH_FILE"])]
    given = environment.get("XDG_RUNTIME_DIR")
    runtime = Path(given) / "containers" if given else Path("/run/containers") / str(uid)
    configuration = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers"
    return [runtime / "auth.json", configuration / "auth.json", docker]


def find_login(files: Sequence[Path], registry: str) -> Login | None:
    """The login of the first file that has one for `registry`, a host with or without a path; None if none has.

    Raises Refusal if a file cannot be read, or if the login is an identity token, which no node can use.
    """
    for file in files:
        if not file.is_file():
            continue
        try:
            document = json.loads(file.read_bytes())
            helper, entry = _helper(document, registry), _entry(document, registry)
            login = (_ask_helper(helper, registry, file) if helper else None) or _read_entry(entry, file, registry)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Refusal(f"{file} is not a file of logins: correct it, or log in again. ({error})") from error
        if login:
            return login
    return None


def pull_secret(name: str, registry: str, login: Login) -> dict[str, Any]:
    """The Secret with which nodes pull from the host of `registry`. It has no other login of the file."""
    host = registry.partition("/")[0]
    pair = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    content = json.dumps({"auths": {DOCKER_HUB_KEY if host == DOCKER_HUB else host: {"auth": pair}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(content.encode()).decode()},
    }


def _helper(document: Mapping[str, Any], registry: str) -> str:
    """The credential helper for the registry; empty if the file names none."""
    host = registry.partition("/")[0]
    helpers = {_normalised(key): helper for key, helper in document.get("credHelpers", {}).items()}
    return str(helpers.get(host) or document.get("credsStore") or "")


def _entry(document: Mapping[str, Any], registry: str) -> Mapping[str, str]:
    """The most specific entry for the registry; empty if the file has none."""
    entries = {_normalised(key): entry for key, entry in document.get("auths", {}).items()}
    fitting = [key for key in entries if f"{registry}/".startswith(f"{key}/")]
    return entries[max(fitting, key=len)] or {} if fitting else {}


def _normalised(key: str) -> str:
    """A key as host and path: docker also writes the URL of the registry's API."""
    address = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    address = address.removesuffix("/v1").removesuffix("/v2")
    return DOCKER_HUB if address == "index.docker.io" else address


def _read_entry(entry: Mapping[str, str], file: Path, registry: str) -> Login | None:
    if entry.get("identitytoken"):
        raise _token_refusal(file, registry)
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        return Login(user, password, str(file))
    if entry.get("username"):
        return Login(entry["username"], entry.get("password", ""), str(file))
    return None


def _ask_helper(helper: str, registry: str, file: Path) -> Login | None:
    """The login that a credential helper has; None if it has none."""
    host, program = registry.partition("/")[0], f"docker-credential-{helper}"
    try:
        answer = run([program, "get"], input=DOCKER_HUB_KEY if host == DOCKER_HUB else host)
    except CommandFailed as error:
        if "not found" in str(error):
            return None
        raise Refusal(
            f"The login to {host} cannot be read, because {file} names the helper {helper}: {error}. Install or repair"
            f" it, or {NAME_A_SECRET}."
        ) from error
    found = json.loads(answer)
    if found["Username"] == TOKEN_USER:
        raise _token_refusal(file, registry)
    return Login(found["Username"], found["Secret"], str(file))


def _token_refusal(file: Path, registry: str) -> Refusal:
    host = registry.partition("/")[0]
    return Refusal(
        f"The login to {host} in {file} is an identity token, which nodes cannot use: {NAME_A_SECRET}, or log in with"
        " a user name and a password."
    )
