"""How log lines are written: as text for people, or as one JSON object per line for log collectors.

The operator has the same fields in `broadsheet_operator.log_lines`; a test compares the two. There is no library for it
here on purpose: a broker imports three packages.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

PACKAGE = "broadsheet_broker."
SUBJECTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"%s-%d"), ("topic", "partition")),
    (re.compile(r"[Gg]roup %s"), ("group",)),
    (re.compile(r"[Bb]roker %d"), ("broker",)),
)
"""How a log call names what it is about, and the fields that the values behind it become."""
_SPECIFIER = re.compile(r"%(?:%|[-+ #0]*\d*(?:\.\d+)?[a-zA-Z])")


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO    network: closing the connection ...`: time in UTC, level, package, message."""

    def format(self, record: logging.LogRecord) -> str:
        room = record.name.removeprefix(PACKAGE).partition(".")[0]
        line = f"{timestamp(record)} {record.levelname:<7} {room}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339 with milliseconds), level, logger, message; exception if there is one.

    `fields`: what every line of this process has. A partition, group or broker that a message is about are fields too.
    """

    def __init__(self, fields: Mapping[str, object] | None = None) -> None:
        super().__init__()
        import json  # a broker that writes text needs none of it

        self._dumps = json.dumps
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **self._fields,
            **subject(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        elif record.stack_info:
            line["exception"] = record.stack_info
        return self._dumps(line, default=str)


def timestamp(record: logging.LogRecord) -> str:
    """When it was logged: RFC 3339 in UTC with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def subject(record: logging.LogRecord) -> dict[str, object]:
    """What the message is about, read from the log call: `"%s-%d: ...", topic, partition`."""
    found: dict[str, object] = {}
    arguments = record.args
    if not isinstance(record.msg, str) or not isinstance(arguments, tuple):
        return found
    for pattern, names in SUBJECTS:
        place = pattern.search(record.msg)
        if place is not None:
            first = sum(match[0] != "%%" for match in _SPECIFIER.finditer(record.msg, 0, place.start()))
            values = arguments[first : first + len(names)]
            if len(values) == len(names):
                found |= zip(names, values, strict=True)
    return found


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a call whose arguments do not fit: the line is worth having nevertheless
        return f"{record.msg} {record.args!r} ({error})"


def configure(level: str, style: str = "text", fields: Mapping[str, object] | None = None) -> None:
    """Log lines go to standard error; as JSON, so does what ends the process or a thread."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(fields) if style == "json" else LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    if style == "json":
        sys.excepthook = _uncaught
        threading.excepthook = lambda end: _uncaught(end.exc_type, end.exc_value, end.exc_traceback)
        sys.unraisablehook = lambda end: _uncaught(end.exc_type, end.exc_value, end.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> Any:
    if error is not None and not issubclass(kind, KeyboardInterrupt):
        logging.getLogger().critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def is_json() -> bool:
    """Whether this process writes JSON lines."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
