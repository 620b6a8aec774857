"""Downloads one file of a Kaggle data set over the documented REST interface.

The `kagglehub` package is no use here: it reaches hosts that are fixed in its source, so neither a mirror nor a test
can stand in for them, and it asks for seven more packages than this one request needs.
"""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx2

from toxicity_stage.errors import DownloadError, InputError, detail_of

FIELD = "spec.dataset.kaggle"
VERSION = "version "
DEFAULT_ENDPOINT = "https://www.kaggle.com"
TIMEOUT = httpx2.Timeout(60, connect=15)


def resolve(dataset: str) -> str:
    """The newest version of the data set, such as `version 3`; empty if Kaggle does not return one.

    Raises DownloadError.
    """
    with _explained(dataset):
        answer = httpx2.get(f"{_endpoint()}/api/v1/datasets/view/{dataset}", auth=_credentials(), timeout=TIMEOUT)
        if answer.is_client_error or answer.is_redirect:
            return ""  # the download reports the error
        answer.raise_for_status()
        try:
            return f"{VERSION}{int(answer.json()['currentVersionNumber'])}"
        except (ValueError, KeyError, TypeError):
            return ""


def download_file(dataset: str, file: str, folder: Path, commit: str) -> Path:
    """Downloads `file` of data set `dataset` (owner/name) to a path below `folder`, which it creates.

    `commit` is a version as `resolve` returns it; empty means the newest. Raises InputError if the data set or the
    file cannot be used, DownloadError if a retry may help.
    """
    folder.mkdir()
    asked = f"?datasetVersionNumber={commit.removeprefix(VERSION)}" if commit else ""
    url = f"{_endpoint()}/api/v1/datasets/download/{dataset}/{quote(file, safe='')}{asked}"
    with _explained(f"{file} of {dataset}"):
        return _unpacked(_fetch(url, dataset, file, folder / "answer"), file)


def _endpoint() -> str:
    return os.environ.get("KAGGLE_API_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.HTTPError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise DownloadError(
            f"{FIELD}: cannot download {what} from {_endpoint()}: {detail_of(error)};"
            " check the cluster's network access, or provide the file in a volume or an image"
        ) from error


def _fetch(url: str, dataset: str, file: str, path: Path) -> Path:
    """Saves the response to `path`. The client drops the credentials when Kaggle redirects to its file store."""
    with httpx2.stream("GET", url, auth=_credentials(), follow_redirects=True, timeout=TIMEOUT) as response:
        _refuse(response, dataset, file)
        with path.open("wb") as sink:
            for chunk in response.iter_bytes():
                sink.write(chunk)
    return path


def _credentials() -> tuple[str, str] | None:
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    return (user, key) if user and key else None


def _refuse(response: httpx2.Response, dataset: str, file: str) -> None:
    if response.status_code == httpx2.codes.NOT_FOUND:
        raise InputError(
            "FileNotFound",
            f"{FIELD}: there is no data set {dataset}, or it has no file {file!r}; correct dataset or file",
        )
    # an HTML page instead of a file is Kaggle's sign-in page
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN) or is_page:
        raise InputError("AccessDenied", f"{FIELD}.dataset: Kaggle refused access to {dataset}; {_access()}")
    response.raise_for_status()


def _access() -> str:
    if _credentials():
        return (
            "correct the name, accept the data set's terms on Kaggle, or put the KAGGLE_USERNAME and KAGGLE_KEY of an"
            f" account that may read it into the Secret of {FIELD}.secretName"
        )
    return (
        f"correct the name, or set {FIELD}.secretName to a Secret with the KAGGLE_USERNAME and KAGGLE_KEY of an"
        " account that may read it"
    )


def _unpacked(answer: Path, file: str) -> Path:
    """The file itself: Kaggle sends a large file as a zip archive that contains it alone."""
    if not zipfile.is_zipfile(answer):
        return answer
    with zipfile.ZipFile(answer) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise InputError(
                "AmbiguousFile", f"{FIELD}.file: {file} is an archive of {len(members)} files; name one file"
            )
        unpacked = answer.with_name("unpacked")
        with archive.open(members[0]) as source, unpacked.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    return unpacked
