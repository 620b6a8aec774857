"""How several attempts at one stage share a volume: each writes a folder of its own, and one whole folder is published.

Two attempts run at once when an old pod still runs on a node that the cluster has lost, and when two resources with
equal fingerprints name one claim. So an attempt removes only what is its own or abandoned. Locks would not do: not all
network volumes have them. Instead, an attempt's folder is called `<name>.tmp-<host>-<process>-<random>`, and its
modification time is renewed every BEAT_SECONDS while the attempt lives. It is abandoned

- when this host (a pod has its name) has no such process any more, or this process has its number: a container that
  was started anew numbers its processes as the one before did;
- when it was not renewed for ABANDONED_SECONDS, by the volume's own clock. An attempt that was only cut off from the
  volume for that long fails when it comes back.

A folder is published by one rename, which fails when the name is taken. What another attempt has finished is kept.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

BEAT_SECONDS = 60.0
ABANDONED_SECONDS = 3600.0
PUBLISH_TRIES = 50

logger = logging.getLogger(__name__)

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_WORK = re.compile(r"(?:dataset|base-model|train|quantize|evaluate|loadtest)-[0-9a-f]+\.tmp-(?P<tag>.+)")
_TAG = re.compile(r"(?P<host>.+)-(?P<process>\d+)(?:-[a-z0-9_]+)?")


def attempt_tag(process: int) -> str:
    """The host and the process, as the names of an attempt's folders have them."""
    return f"{socket.gethostname()}-{process}"


def open_folder(final: Path, process: int) -> Path:
    """A fresh folder beside `final` for the attempt of this process; abandoned ones of the volume are removed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-{attempt_tag(process)}-", dir=final.parent))
    work.chmod(0o755)
    now = work.stat().st_mtime
    for folder in final.parent.iterdir():
        match = _WORK.fullmatch(folder.name)
        if match and folder != work and is_abandoned(folder, match["tag"], process, now):
            shutil.rmtree(folder, ignore_errors=True)  # another attempt may be removing it as well
    return work


def is_abandoned(folder: Path, tag: str, process: int, now: float) -> bool:
    """Whether nobody writes the folder any more. `tag` is the end of its name, `now` the time on its volume."""
    match = _TAG.fullmatch(tag)
    if match and match["host"] == socket.gethostname():
        writer = int(match["process"])
        if writer == process or not _runs(writer):
            return True
    try:
        return folder.is_dir() and now - folder.stat().st_mtime > ABANDONED_SECONDS
    except FileNotFoundError:
        return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def keep_alive(folder: Path) -> None:
    """Says that the folder is being written, for as long as this process runs and the folder has this name."""
    threading.Thread(target=_beat, args=(folder,), name="keep-alive", daemon=True).start()


def _beat(folder: Path) -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        try:
            os.utime(folder)
        except FileNotFoundError:
            return
        except OSError as error:  # of a volume that cannot be reached; the next time may succeed
            logger.warning("keep_alive_failed folder=%s error=%s", folder, error)


def says(field: str, value: str) -> Callable[[bytes], bool]:
    """Whether a JSON document has the value in the field, for `publish_folder`.

    It goes by the one field that counts, so what a later version has finished is kept even if it cannot be read.
    """

    def is_said(content: bytes) -> bool:
        try:
            document = json.loads(content)
        except ValueError:
            return False
        return isinstance(document, dict) and document.get(field) == value

    return is_said


def publish_folder(work: Path, final: Path, document: str, is_done: Callable[[bytes], bool]) -> bool:
    """Renames `work` to `final`. False when another attempt's finished folder is there, which is kept.

    A folder counts as finished by the content of its file `document`; one that does not gives way.
    """
    for _ in range(PUBLISH_TRIES):  # each but the last fails only when another attempt has published meanwhile
        try:
            os.rename(work, final)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return True
        if not _give_way(final, document, is_done):
            return False
    raise OSError(errno.ENOTEMPTY, "other attempts publish here again and again", str(final))


def _give_way(final: Path, document: str, is_done: Callable[[bytes], bool]) -> bool:
    """Removes a folder that is not finished; False when it is.

    It is emptied by its descriptor and not by its path, where another attempt may publish at any moment.
    """
    try:
        folder = os.open(final, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    try:
        if _is_finished(folder, document, is_done):
            return False
        for name in os.listdir(folder):
            _remove(name, folder)
    finally:
        os.close(folder)
    try:
        os.rmdir(final)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    return True


def _remove(name: str, folder: int) -> None:
    try:
        if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return  # another attempt removes it as well


def _is_finished(folder: int, document: str, is_done: Callable[[bytes], bool]) -> bool:
    try:
        file = os.open(document, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return False
    with open(file, "rb") as opened:
        return is_done(opened.read())
