"""What is said of a crash: the exception's type and where it was raised, never its words.

A client's exception quotes the header that it could not send, and with it the API token, while the status, the result
document and the log are read by many.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

logger = logging.getLogger(__name__)


def crash_words(error: BaseException) -> str:
    """For the status and the result document."""
    return f"{type(error).__name__}; the pod's log says where"


def log_crash(event: str, error: BaseException) -> None:
    """The exception and those that caused it, each with its frames."""
    cause: BaseException | None = error
    while cause is not None:
        _log(event, type(cause), cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def log_greenlet_crashes() -> None:
    """Has gevent report in the same way what ends a greenlet; by itself it prints the words on standard error."""
    import gevent

    gevent.get_hub().print_exception = _greenlet_crashed


def _greenlet_crashed(
    _context: object, kind: type[BaseException], _error: object, trace: TracebackType | None
) -> None:
    _log("greenlet_crashed", kind, trace)


def _log(event: str, kind: type[BaseException], trace: TracebackType | None) -> None:
    logger.error("%s error=%s\n%s", event, kind.__name__, "".join(traceback.format_tb(trace)).rstrip())
