"""Which names a topic may have (org.apache.kafka.common.internals.Topic)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

MAX_NAME_LENGTH: Final = 249
"""A log directory is named after topic and partition, and may be renamed with a suffix; file names end at 255 bytes."""

_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")


def name_problem(name: str) -> str | None:
    """Why a topic cannot have this name, as Kafka words it; None when it can."""
    if not name:
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > MAX_NAME_LENGTH:
        return f"Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}"
    if not _LEGAL.fullmatch(name):
        return (
            f"Topic name is invalid: '{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )
    return None


def validate_name(name: str) -> None:
    """Raise KafkaError(INVALID_TOPIC_EXCEPTION) unless this may be the name of a topic."""
    problem = name_problem(name)
    if problem is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)


def unified(name: str) -> str:
    """Names that differ only in '.' and '_' have the same metric names: this form is the same for them."""
    return name.replace(".", "_")


def has_collision_characters(name: str) -> bool:
    return "." in name or "_" in name


class NameIndex:
    """Finds the existing topic whose name would collide with a new one in metric names."""

    __slots__ = ("_names",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: dict[str, set[str]] = {}
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        """The number of names that differ in more than '.' and '_'."""
        return len(self._names)

    def add(self, name: str) -> None:
        if has_collision_characters(name):
            self._names.setdefault(unified(name), set()).add(name)

    def discard(self, name: str) -> None:
        if has_collision_characters(name):
            names = self._names.get(unified(name), set())
            names.discard(name)
            if not names:
                self._names.pop(unified(name), None)

    def colliding(self, name: str) -> str | None:
        """An existing topic with the same metric names, which may be the topic itself; None when there is none."""
        if not has_collision_characters(name):
            return None
        return min(self._names.get(unified(name), ()), default=None)
