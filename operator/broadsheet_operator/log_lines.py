"""How log lines of the operator, the canary and `up` are written: as text for people, or as JSON for log collectors.

The fields are those of a broker's lines (`broadsheet_broker.seams.log_lines`); a test compares the two.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from broadsheet_operator.api.keys import ResourceKey

FORMATS = ("text", "json")
TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
EXTRAS = ("kind", "namespace", "cluster", "topic", "partition", "broker")
"""Fields that a log call may give with `extra=`, beside those that are read from its arguments."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339, milliseconds), level, logger, message; exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **_subject(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        elif record.stack_info:
            line["exception"] = record.stack_info
        return json.dumps(line, default=str)


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _subject(record: logging.LogRecord) -> dict[str, object]:
    """The object that a line is about: `"%s %s: ...", kind, key`, kopf's reference, or `extra`."""
    found: dict[str, object] = {}
    arguments = record.args if isinstance(record.args, tuple) else ()
    key = next((value for value in arguments if isinstance(value, ResourceKey)), None)
    if key is not None:
        position = arguments.index(key)
        kind = arguments[position - 1] if position and str(record.msg).startswith("%s %s") else ""
        kind = kind or str(record.msg).partition(" %s")[0]  # "Cluster %s: ..."
        found = {"kind": kind, "namespace": key.namespace, "name": key.name}
    reference = getattr(record, "k8s_ref", None)
    if isinstance(reference, dict):
        found = {name: reference[name] for name in ("kind", "namespace", "name") if reference.get(name)}
    found |= {name: value for name in EXTRAS if (value := record.__dict__.get(name)) is not None}
    if found.get("kind") == "Cluster":
        found["cluster"] = found["name"]
    return found


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a call whose arguments do not fit: the line is worth having nevertheless
        return f"{record.msg} {record.args!r} ({error})"


def configure(level: str, style: str = "text") -> None:
    """Log lines go to standard error; as JSON, so does what ends the process or a thread."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if style == "json":
        sys.excepthook = _uncaught
        threading.excepthook = lambda end: _uncaught(end.exc_type, end.exc_value, end.exc_traceback)
        sys.unraisablehook = lambda end: _uncaught(end.exc_type, end.exc_value, end.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> Any:
    if error is not None and not issubclass(kind, KeyboardInterrupt):
        logging.getLogger().critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
