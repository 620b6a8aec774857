"""Object stores, with the options of the command in place of the fields of the resource."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from toxicity_api.spec import ObjectStore
from toxicity_score.errors import InvalidRunError, ScoreError
from toxicity_store.client import KEYS, Client, connect
from toxicity_store.errors import FIELD, StoreError

OBJECT_SCHEMES = tuple(KEYS)

MOUNTED = "mounted"
"""Stands for the name of the Secret, which the command does not know."""

_NAMES = {
    f"{FIELD}.endpoint": "--endpoint",
    f"{FIELD}.region": "--region",
    f"{FIELD}.secretName": "--object-store-secrets",
    f"{FIELD}.caSecretName": "--object-store-secrets",
    f"the Secret {MOUNTED}": "the mounted Secret",
    "or set secretName": "or mount a Secret with credentials",
}
"""What the messages of the store are about, and what it is called here."""


def named(location: str) -> str:
    """A URL for messages, without its query and without a password: either may be secret."""
    url = urlsplit(location)
    return f"{url.scheme}://{url.hostname or ''}{url.path}"


@dataclass(frozen=True)
class ObjectOptions:
    """Where the server is. `secrets` is the folder of the mounted Secrets, as in the pods of a resource."""

    endpoint: str | None
    region: str | None
    secrets: Path

    def translated(self, error: StoreError, option: str, location: str) -> ScoreError:
        """The error with the names of the options."""
        message = str(error)
        if error.reason == "BucketMissing":
            return InvalidRunError(
                f"{option}: the bucket of {location} does not exist; create it, or correct {option}"
            )
        for words, name in _NAMES.items():
            message = message.replace(words, name)
        message = message.replace(f"{FIELD}.url", option).replace(FIELD, option)
        return InvalidRunError(message) if error.is_permanent else ScoreError(message)


def open_prefix(prefix: str, option: str, options: ObjectOptions) -> Client:
    """Connect to a prefix of a bucket, without a request. Raises ScoreError."""
    try:
        spec = ObjectStore(
            url=prefix,
            endpoint=options.endpoint,
            region=options.region,
            secret_name=MOUNTED if (options.secrets / "credentials").is_dir() else None,
            ca_secret_name=MOUNTED if (options.secrets / "ca" / "ca.crt").is_file() else None,
        )
    except ValidationError as error:
        field = {"endpoint": "--endpoint", "region": "--region"}.get(str(error.errors()[0]["loc"][0]), option)
        raise InvalidRunError(f"{field}: not a valid value; use {option} SCHEME://BUCKET/PREFIX") from error
    try:
        return connect(spec, options.secrets)
    except StoreError as error:
        raise options.translated(error, option, prefix) from error
