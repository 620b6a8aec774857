"""Let several attempts at one stage share a volume: each writes a separate folder, and one rename publishes it.

Two attempts run at once if an old pod still runs on a node that the cluster has lost, or if two resources with equal
fingerprints use one claim. An attempt therefore removes only its own folders and abandoned ones. Locks are no option,
since not all network volumes support them.

The folder of an attempt is named `<name>.tmp-<host>-<process>-<random>`. The attempt updates the folder's modification
time every BEAT_SECONDS. A folder is abandoned in two cases:

- Its name has this host (the host name of a pod is the pod's name), and the process no longer exists or is this one.
  A restarted container reuses process numbers.
- Its modification time is older than ABANDONED_SECONDS, by the volume's clock. If its attempt had only lost the
  connection to the volume, the attempt fails when it reconnects.

The rename fails if the name is taken. A finished folder of another attempt is kept.
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
    """Return the host and the process as they appear in the names of an attempt's folders."""
    return f"{socket.gethostname()}-{process}"


def open_folder(final: Path, process: int) -> Path:
    """Create a folder beside `final` for this process's attempt, and remove abandoned folders in the volume."""
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-{attempt_tag(process)}-", dir=final.parent))
    work.chmod(0o755)
    now = work.stat().st_mtime
    for folder in final.parent.iterdir():
        match = _WORK.fullmatch(folder.name)
        if match and folder != work and is_abandoned(folder, match["tag"], process, now):
            shutil.rmtree(folder, ignore_errors=True)  # another attempt may remove it at the same time
    return work


def is_abandoned(folder: Path, tag: str, process: int, now: float) -> bool:
    """Whether no attempt writes to the folder. `tag` is the end of its name, `now` the time on its volume."""
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
    """Update the folder's modification time while this process runs and the folder has this name."""
    threading.Thread(target=_beat, args=(folder,), name="keep-alive", daemon=True).start()


def _beat(folder: Path) -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        try:
            os.utime(folder)
        except FileNotFoundError:
            return
        except OSError as error:  # the volume cannot be reached; the next update may succeed
            logger.warning("keep_alive_failed folder=%s error=%s", folder, error)


def says(field: str, value: str) -> Callable[[bytes], bool]:
    """Return a check, for `publish_folder`, that a JSON document has `value` in `field`.

    Only this field is read, so that the finished folder of a later version is kept.
    """

    def is_said(content: bytes) -> bool:
        try:
            document = json.loads(content)
        except ValueError:
            return False
        return isinstance(document, dict) and document.get(field) == value

    return is_said


def publish_folder(work: Path, final: Path, document: str, is_done: Callable[[bytes], bool]) -> bool:
    """Rename `work` to `final`. Return False if `final` is a finished folder of another attempt, which is kept.

    `is_done` decides from the content of its file `document` whether a folder is finished. An unfinished folder is
    removed. Raises OSError after PUBLISH_TRIES tries.
    """
    for _ in range(PUBLISH_TRIES):  # a try fails only if another attempt has published in the meantime
        try:
            os.rename(work, final)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return True
        if not _give_way(final, document, is_done):
            return False
    raise OSError(errno.ENOTEMPTY, f"other attempts published here during all {PUBLISH_TRIES} tries", str(final))


def _give_way(final: Path, document: str, is_done: Callable[[bytes], bool]) -> bool:
    """Remove a folder that is not finished. Return False if it is finished.

    The descriptor is used instead of the path, since another attempt can publish at the path at any moment.
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
        return  # another attempt removed it


def _is_finished(folder: int, document: str, is_done: Callable[[bytes], bool]) -> bool:
    try:
        file = os.open(document, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return False
    with open(file, "rb") as opened:
        return is_done(opened.read())
