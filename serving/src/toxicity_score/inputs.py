"""Where the input is: a file, a URL or an object. URLs and objects are downloaded before the run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from toxicity_score.errors import InvalidRunError, ScoreError
from toxicity_score.objects import OBJECT_SCHEMES, ObjectOptions, named, open_prefix
from toxicity_store.errors import StoreError

CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Input:
    """A local file with the content, and its sha256."""

    path: Path
    name: str
    digest: str


def fetch_input(location: str, scratch: Path, options: ObjectOptions) -> Input:
    """Return the input as a local file, which is in `scratch` if it was downloaded. Raises ScoreError."""
    scheme, path = urlsplit(location).scheme, scratch / "input"
    if scheme in OBJECT_SCHEMES:
        _download_object(location, path, options)
    elif scheme in ("http", "https"):
        _download(location, path)
    else:
        path = Path(location)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRunError(f"--input: cannot read {path}: {error.strerror}") from error
    return Input(path, PurePosixPath(urlsplit(location).path).name or named(location), digest)


def _download(location: str, target: Path) -> None:
    try:
        with (
            httpx.stream("GET", location, follow_redirects=True, timeout=60) as response,
            target.open("wb") as file,
        ):
            if response.status_code != 200:
                kind = InvalidRunError if 400 <= response.status_code < 500 else ScoreError
                raise kind(f"--input: {named(location)} answers {response.status_code}")
            for chunk in response.iter_bytes():
                file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ScoreError(
            f"--input: cannot download {named(location)} ({type(error).__name__}: {error})"
        ) from error
    except OSError as error:
        raise ScoreError(f"--input: cannot store the download in {target.parent}: {error.strerror}") from error


def _download_object(location: str, target: Path, options: ObjectOptions) -> None:
    prefix, _, key = location.rpartition("/")
    if not key or "://" not in prefix:
        raise InvalidRunError(f"--input: {location} names no object; append its key")
    client = open_prefix(prefix, "--input", options)
    try:
        size = client.size(key)
        if size is None:
            raise InvalidRunError(f"--input: {location} does not exist; correct --input, or --endpoint")
        with target.open("wb") as file:
            for start in range(0, size, CHUNK_BYTES):
                content = client.read_range(key, start, min(CHUNK_BYTES, size - start))
                if content is None:
                    raise ScoreError(f"--input: {location} was deleted during the download")
                file.write(content)
    except StoreError as error:
        raise options.translated(error, "--input", location) from error
