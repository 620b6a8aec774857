"""Log format: one line per record with time, level, logger, a constant event name and the fields."""

from __future__ import annotations

import logging

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "settings", "k8s_ref"}


class FieldFormatter(logging.Formatter):
    """Formatter that appends the extra fields of a record as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in STANDARD}
        text = " ".join(f"{key}={value!r}" for key, value in fields.items())
        return f"{super().formatMessage(record)} {text}".rstrip()


def configure_logging(level: str) -> None:
    """Log to standard error: the operator from `level` on, libraries from warning on."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("toxicity_operator").setLevel(level.upper())
    if level == "debug":
        logging.getLogger("kopf").setLevel(logging.DEBUG)
