"""The login that docker, podman or buildah has stored, and the pull Secret that is made of it."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from toxicity_cluster.errors import Refusal
from toxicity_cluster.registry_login import Login, find_login, login_files, pull_secret

ADA, BOB = Login("ada", "correct: horse", "a"), Login("bob", "битва", "b")


def entry(login: Login) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{login.username}:{login.password}".encode()).decode()}


def a_file(folder: Path, document: Mapping[str, object], name: str = "config.json") -> Path:
    (folder / name).write_text(json.dumps(document))
    return folder / name


def found(file: Path, registry: str) -> tuple[str, str] | None:
    login = find_login([file], registry)
    return (login.username, login.password) if login else None


@pytest.mark.parametrize(
    ("program", "environment", "uid", "expected"),
    [
        ("docker", {}, 7, ["/home/x/.docker/config.json"]),
        ("docker", {"DOCKER_CONFIG": "/d"}, 7, ["/d/config.json"]),
        (
            "podman", {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_CONFIG_HOME": "/c"}, 7,
            ["/run/user/7/containers/auth.json", "/c/containers/auth.json", "/home/x/.docker/config.json"],
        ),
        (
            "buildah", {}, 7,
            ["/run/containers/7/auth.json", "/home/x/.config/containers/auth.json", "/home/x/.docker/config.json"],
        ),
        ("buildah", {"REGISTRY_AUTH_FILE": "/a.json", "XDG_RUNTIME_DIR": "/run/user/7"}, 0, ["/a.json"]),
    ],
)  # fmt: skip
def test_the_files_are_those_that_the_program_reads(
    program: str, environment: dict[str, str], uid: int, expected: list[str]
) -> None:
    files = login_files(program, environment, Path("/home/x"), uid)
    assert [str(file) for file in files] == expected


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("registry.example:5000", "registry.example:5000/team"),
        ("https://registry.example", "registry.example/team"),
        ("https://registry.example/v2/", "registry.example"),
        ("registry.example/team", "registry.example/team/a"),
        ("https://index.docker.io/v1/", "docker.io/ada"),
        ("docker.io", "docker.io/ada"),
    ],
)
def test_a_login_applies_to_its_host_or_path(key: str, registry: str, tmp_path: Path) -> None:
    others = {"registry.exampl": entry(BOB), "registry.example.org": entry(BOB), "registry.example/te": entry(BOB)}
    file = a_file(tmp_path, {"auths": others | {key: entry(ADA)}})
    assert found(file, registry) == ("ada", "correct: horse")


def test_the_most_specific_login_is_used(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"auths": {"r.example": entry(ADA), "r.example/team": entry(BOB)}})
    assert found(file, "r.example/team/x") == ("bob", "битва")
    assert found(file, "r.example/teams") == ("ada", "correct: horse")


def test_a_login_can_be_user_and_password_in_clear(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"auths": {"r.example": {"username": "ada", "password": "secret"}}})
    assert found(file, "r.example") == ("ada", "secret")


def test_the_first_file_with_a_login_counts(tmp_path: Path) -> None:
    files = [
        tmp_path / "missing.json",
        a_file(tmp_path, {"auths": {"r.example": {}}}, "empty.json"),
        a_file(tmp_path, {"auths": {"r.example": entry(BOB)}}, "second.json"),
        a_file(tmp_path, {"auths": {"r.example": entry(ADA)}}, "third.json"),
    ]
    login = find_login(files, "r.example/team")
    assert login is not None
    assert (login.username, login.source) == ("bob", str(tmp_path / "second.json"))
    assert find_login(files, "other.example") is None


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Credential helpers on PATH: `keyring` knows r.example, `token` has an identity token."""
    folder = tmp_path / "bin"
    folder.mkdir()
    answers = {
        "keyring": '{"ServerURL": "r.example", "Username": "ada", "Secret": "from the keyring"}',
        "token": '{"ServerURL": "r.example", "Username": "<token>", "Secret": "t"}',
    }
    for name, answer in answers.items():
        script = folder / f"docker-credential-{name}"
        script.write_text(
            f"#!/bin/sh\n[ \"$1 $(cat)\" = 'get r.example' ] && echo '{answer}' && exit\n"
            "echo 'credentials not found in native keychain'; exit 1\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


@pytest.mark.parametrize("document", [{"credsStore": "keyring"}, {"credHelpers": {"r.example": "keyring"}}])
def test_a_credential_helper_is_asked(document: dict[str, object], helpers: Path, tmp_path: Path) -> None:
    file = a_file(tmp_path, document | {"auths": {"r.example": {}, "other.example": entry(BOB)}})
    assert found(file, "r.example/team") == ("ada", "from the keyring")
    assert found(file, "other.example") == ("bob", "битва")
    assert found(file, "unknown.example") is None


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"credsStore": "nowhere"})
    with pytest.raises(Refusal, match=r"docker-credential-nowhere is not installed.*PULL_SECRET"):
        find_login([file], "r.example")


@pytest.mark.parametrize("document", [{"auths": {"r.example": {"identitytoken": "t"}}}, {"credsStore": "token"}])
def test_a_login_that_nodes_cannot_use_is_refused(
    document: dict[str, object], helpers: Path, tmp_path: Path
) -> None:
    file = a_file(tmp_path, document)
    with pytest.raises(Refusal, match=r"r\.example.*identity token.*PULL_SECRET"):
        find_login([file], "r.example/team")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r.example": {"auth": "%%%"}}}', '{"auths": []}'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refusal, match=r"config\.json.*log in again"):
        find_login([tmp_path / "config.json"], "r.example")


@pytest.mark.parametrize(
    ("registry", "key"),
    [("registry.example:5000/team", "registry.example:5000"), ("docker.io/ada", "https://index.docker.io/v1/")],
)
def test_the_pull_secret_has_this_login_only(registry: str, key: str) -> None:
    secret = pull_secret("name", registry, BOB)
    assert (secret["kind"], secret["metadata"]["name"]) == ("Secret", "name")
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    content = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    assert content == {"auths": {key: entry(BOB)}}


def test_a_login_is_not_printed_with_its_password() -> None:
    assert "horse" not in repr(ADA) and "ada" in repr(ADA)
