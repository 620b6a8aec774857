"""One bucket prefix through obstore, with errors that name the field of the spec and the remedy.

Credentials are files that the operator mounts from a Secret, so that they are in no environment and no child process
inherits them. Without a Secret, obstore uses the identity of the pod (AWS web identity, GKE, Azure workload identity).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from toxicity_api.spec import ObjectStore
from toxicity_store.errors import DETAIL_LIMIT, FIELD, StoreError, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import RetryConfig

SECRETS = Path("/etc/object-store")
"""Where the operator mounts the Secrets: `credentials/KEY` and `ca/ca.crt`."""

PART_BYTES = 8 << 20
MAX_PARTS = 9_000
"""S3 accepts 10 000 parts of one object."""

S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
}
GCS_KEYS = {"GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key"}
AZURE_KEYS = {
    "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
    "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
    "AZURE_STORAGE_SAS_TOKEN": "sas_key",
}
KEYS = {"s3": S3_KEYS, "gs": GCS_KEYS, "az": AZURE_KEYS}
"""Keys of the Secret, by scheme, and what obstore calls them."""

REQUIRED = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": (),
}

MISSING_OBJECT = ("", "NoSuchKey", "NoSuchVersion", "BlobNotFound")
MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound")
UNKNOWN_ACCOUNT = ("InvalidAccessKeyId", "XAdminUserNotFound", "ExpiredToken", "InvalidToken")
UNTRUSTED = ("UnknownIssuer", "certificate verify failed", "InvalidCertificate", "invalid peer certificate")
FULL = ("InsufficientStorage", "QuotaExceeded", "StorageFull", "no space left", "disk quota exceeded")
"""Codes and words of the servers' answers."""


def add_secrets_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option with the folder of the mounted Secrets, as `object_store_secrets`."""
    parser.add_argument(
        "--object-store-secrets",
        type=Path,
        default=SECRETS,
        help="folder of the mounted Secrets of the object store",
    )


def default_retry() -> RetryConfig:
    """Retries for three minutes, which covers the restart of a server."""
    return {"max_retries": 40, "retry_timeout": timedelta(minutes=3)}


@dataclass(frozen=True)
class Client:
    """The operations on one prefix. Keys are relative to it. Every method raises StoreError."""

    spec: ObjectStore
    store: Any = field(repr=False)

    def read(self, key: str) -> bytes | None:
        """The content of a small object; None if it does not exist."""
        import obstore

        try:
            with self._reported(f"read {key}", may_miss=True):
                return bytes(obstore.get(self.store, key).bytes())
        except FileNotFoundError:
            return None

    def read_range(self, key: str, start: int, length: int) -> memoryview | None:
        """Part of an object; None if the object does not exist."""
        import obstore

        try:
            with self._reported(f"read {key}", may_miss=True):
                return memoryview(obstore.get_range(self.store, key, start=start, length=length))
        except FileNotFoundError:
            return None

    def write(self, key: str, file: IO[bytes], size: int) -> None:
        """Uploads a file, in parts if it is large. The object appears when it is complete."""
        import obstore

        part = max(PART_BYTES, -(-size // MAX_PARTS))
        with self._reported(f"write {key}"):
            obstore.put(self.store, key, file, chunk_size=part, max_concurrency=4)

    def create(self, key: str, content: bytes) -> bool:
        """Writes a new object. Returns False if the object exists, which is then unchanged."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._reported(f"write {key}"):
            try:
                obstore.put(self.store, key, content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def modified_at(self, key: str) -> float | None:
        """When the object was written, in seconds since 1970; None if it does not exist."""
        meta = self._head(key)
        return None if meta is None else float(meta["last_modified"].timestamp())

    def _head(self, key: str) -> Any:
        """The metadata of an object; None if it does not exist."""
        import obstore

        try:
            with self._reported(f"read {key}", may_miss=True):
                return obstore.head(self.store, key)
        except FileNotFoundError:
            return None

    def size(self, key: str) -> int | None:
        """The size of an object in bytes; None if it does not exist."""
        meta = self._head(key)
        return None if meta is None else int(meta["size"])

    def list_names(self, prefix: str | None = None) -> list[str]:
        """The names of the folders directly below `prefix`."""
        import obstore

        with self._reported("list the bucket"):
            found = obstore.list_with_delimiter(self.store, prefix)["common_prefixes"]
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def list_keys(self, prefix: str) -> list[str]:
        """The keys of all objects below `prefix`."""
        import obstore

        with self._reported("list the bucket"):
            return [str(item["path"]) for chunk in obstore.list(self.store, prefix) for item in chunk]

    def remove(self, keys: Sequence[str]) -> None:
        """Deletes objects. Those that do not exist are ignored."""
        import obstore

        for key in keys:  # one by one: not every S3-compatible server has bulk deletion
            try:
                with self._reported(f"delete {key}", may_miss=True):
                    obstore.delete(self.store, key)
            except FileNotFoundError:
                continue

    @contextmanager
    def _reported(self, doing: str, *, may_miss: bool = False) -> Iterator[None]:
        """Translates the errors of obstore; `may_miss` lets the FileNotFoundError of a missing object pass.

        The original error is not attached: it quotes the request, with an access key or the signature of a SAS token.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if may_miss and _code(str(error)) in MISSING_OBJECT:
                raise
            failure = self._translated(doing, error)
        except (BaseError, ValueError) as error:
            failure = self._translated(doing, error)
        else:
            return
        raise failure from None

    def _translated(self, doing: str, error: Exception) -> StoreError:
        url, code, text, what = self.spec.url, _code(str(error)), str(error), summary(error)
        if code in MISSING_BUCKET or "specified bucket does not exist" in text:
            message = (
                f"{FIELD}.url: the bucket of {url} does not exist; create it and change the stage's runId, or delete"
                " the resource and create it again with another url"
            )
            return StoreRefused("BucketMissing", message)
        if code in UNKNOWN_ACCOUNT or re.search(r"status code: 40[13]\b", text):
            message = f"{FIELD}: {url} does not allow to {doing} ({what}); {self._identity()}"
            return StoreRefused("StoreAccessDenied", message)
        if any(word in text for word in UNTRUSTED):
            message = (
                f"{FIELD}.caSecretName: the certificate of {self.spec.endpoint or url} is not trusted; set caSecretName"
                " to a Secret whose key ca.crt has the certificate of its authority"
            )
            return StoreRefused("StoreCertificate", message)
        if any(word in text for word in FULL):
            message = f"{FIELD}.url: {url} is full, cannot {doing} ({what}); free space in it, or raise its quota"
            return StoreUnavailable("StoreFull", message)
        message = (
            f"{FIELD}: cannot {doing} in {url} ({what}); check {FIELD}.endpoint, the server and its free space"
        )
        return StoreUnavailable("StoreUnavailable", message)

    def _identity(self) -> str:
        if self.spec.secret_name:
            return f"correct the credentials in the Secret {self.spec.secret_name}, or the rights of its account"
        return "give the ServiceAccount of the pod access to the bucket, or set secretName"


def connect(spec: ObjectStore, secrets: Path, retry: RetryConfig | None = None) -> Client:
    """Opens the store of the spec without a request. Raises StoreRefused for missing or malformed Secrets."""
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    url = urlsplit(spec.url)
    options: dict[str, Any] = {"timeout": "2m", "allow_http": (spec.endpoint or "").startswith("http://")}
    authority = _authority(spec, secrets)
    if authority is not None:
        options["root_certificate"] = authority
    shared: dict[str, Any] = {
        "prefix": url.path.strip("/") or None,
        "client_options": options,
        "retry_config": retry or default_retry(),
        **_credentials(spec, secrets),
    }
    try:
        if url.scheme == "s3":
            place = {"endpoint": spec.endpoint, "region": spec.region}
            shared |= {key: value for key, value in place.items() if value}
            return Client(spec, S3Store(url.netloc, **shared))
        if url.scheme == "gs":
            shared |= {"base_url": spec.endpoint} if spec.endpoint else {}
            return Client(spec, GCSStore(url.netloc, **shared))
        return Client(spec, AzureStore(url.netloc, **(_azure_place(spec) | shared)))
    except (BaseError, ValueError) as error:
        # without the text of the error, which can quote a credential
        raise StoreRefused(
            "StoreSettings",
            f"{FIELD}: the settings for {spec.url} are not usable ({type(error).__name__}); correct secretName,"
            " caSecretName, endpoint or region",
        ) from error


def _azure_place(spec: ObjectStore) -> dict[str, str]:
    """The endpoint and, from its host name, the storage account. A Secret can replace the account."""
    if not spec.endpoint:
        return {}
    return {"endpoint": spec.endpoint, "account_name": str(urlsplit(spec.endpoint).hostname).partition(".")[0]}


def _credentials(spec: ObjectStore, secrets: Path) -> dict[str, str]:
    """What obstore needs from the mounted Secret; empty without a Secret. Raises StoreRefused for a missing key."""
    if not spec.secret_name:
        return {}
    scheme, folder = urlsplit(spec.url).scheme, secrets / "credentials"
    found = {key: (folder / key).read_text().strip() for key in KEYS[scheme] if (folder / key).is_file()}
    missing = [key for key in REQUIRED[scheme] if not found.get(key)]
    if scheme == "az" and not any(
        found.get(key) for key in ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN")
    ):
        missing = ["AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"]
    if missing:
        raise StoreRefused(
            "StoreCredentialsMissing",
            f"{FIELD}.secretName: the Secret {spec.secret_name} has no {' and no '.join(missing)}; add the key, or"
            " correct secretName",
        )
    return {KEYS[scheme][key]: value for key, value in found.items() if value}


def _authority(spec: ObjectStore, secrets: Path) -> bytes | None:
    if not spec.ca_secret_name:
        return None
    try:
        return (secrets / "ca" / "ca.crt").read_bytes()
    except FileNotFoundError as error:
        raise StoreRefused(
            "StoreCertificate",
            f"{FIELD}.caSecretName: the Secret {spec.ca_secret_name} has no ca.crt; add the key, or correct"
            " caSecretName",
        ) from error


def summary(error: BaseException) -> str:
    """The status and the code of the server's answer, or else the error in one line, without credentials."""
    text = str(error)
    status = re.search(r"status code: (\d+(?: [A-Z][A-Za-z]+)*)", text)
    found = [status[1]] if status else []
    if code := _code(text):
        found.append(code)
    if found:
        return " ".join(found)
    line = " ".join(text.partition("Debug source")[0].split())
    return re.sub(r"\?\S*", "", line)[:DETAIL_LIMIT]


def _code(text: str) -> str:
    """The code in the server's XML answer; empty without one."""
    found = re.search(r"<Code>(\w+)</Code>", text)
    return found[1] if found else ""
