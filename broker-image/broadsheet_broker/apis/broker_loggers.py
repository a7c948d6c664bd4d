"""The log levels of this process as configs of type BROKER_LOGGER (KIP-412): read and changed while the broker runs.

Loggers go by the names of the broker's modules, `root` for all; levels by Kafka's names. A change lasts until the
process ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from broadsheet_broker.wire.messages.incremental_alter_configs_request import AlterableConfig

ROOT: Final = "root"
_PACKAGE: Final = "broadsheet_broker"
_SET, _DELETE = 0, 1

_LEVELS: Final = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
_NAMES: Final = {level: name for name, level in reversed(_LEVELS.items()) if name != "TRACE"}


def levels() -> Iterator[tuple[str, str]]:
    """Every logger of the broker and the level that it has in effect."""
    yield ROOT, _name(logging.getLogger())
    for name in sorted(_own_loggers()):
        yield name, _name(logging.getLogger(name))


def alter(changes: Iterable[AlterableConfig], *, validate_only: bool) -> None:
    """Set levels, or let loggers have the level of their parent again. Raises KafkaError, and then changes nothing."""
    changes = list(changes)
    for change in changes:
        _check(change)
    if validate_only:
        return
    for change in changes:
        name = "" if change.name == ROOT else change.name
        logging.getLogger(name).setLevel(_LEVELS[change.value or ""] if change.config_operation == _SET else 0)


def _check(change: AlterableConfig) -> None:
    if change.config_operation not in (_SET, _DELETE):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Operation {change.config_operation} is not allowed for a logger: SET or DELETE"
        )
    if change.name != ROOT and change.name not in _own_loggers():
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Logger {change.name} does not exist!")
    if change.config_operation == _SET and change.value not in _LEVELS:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"Cannot set the log level of {change.name} to {change.value} as it is not a supported log level. "
            f"Valid log levels are {', '.join(sorted(_LEVELS))}",
        )
    if change.config_operation == _DELETE and change.name == ROOT:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Removing the log level of the root logger is not allowed")


def _own_loggers() -> set[str]:
    known: dict[str, Any] = logging.root.manager.loggerDict
    return {
        name
        for name, logger in known.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == _PACKAGE
    }


def _name(logger: logging.Logger) -> str:
    level = logger.getEffectiveLevel()
    return next((name for least, name in sorted(_NAMES.items(), reverse=True) if least <= level), "DEBUG")
