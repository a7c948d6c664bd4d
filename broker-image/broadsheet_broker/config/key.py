"""What one property is: its type, its default, what it may be, and how text becomes a value.

Types and their rules are those of Kafka's ConfigDef, so that a server.properties means here what it means there:
text is trimmed, booleans are `true` and `false` in any case, lists are separated by commas, numbers have Java's ranges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

Value = bool | int | float | str | list[str] | None


class Kind(IntEnum):
    """The type of a value; the numbers are those of DescribeConfigs (KIP-569)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


BOOLEAN, STRING, INT, SHORT, LONG, DOUBLE, LIST, CLASS, PASSWORD = Kind

_LIMITS = {Kind.SHORT: 2**15, Kind.INT: 2**31, Kind.LONG: 2**63}
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,30}")

READ_ONLY = "read-only"
"""Takes effect at the next start."""
PER_BROKER = "per-broker"
"""May be changed in a running broker, for that broker only."""
CLUSTER_WIDE = "cluster-wide"
"""May be changed in running brokers, for one or as a default of all."""


class ConfigError(Exception):
    """A property that a broker cannot start with: names the key, the value and what is allowed."""


Allowed = Callable[[Value], str | None]
"""Returns None for a value that is allowed, or what would be allowed."""


@dataclass(frozen=True, slots=True)
class Key:
    """One property that Kafka knows (or that is ours: then its name begins with `broadsheet.`)."""

    name: str
    kind: Kind
    default: str | None
    """As it would be written; None when there is none."""
    doc: str
    """What it does, with its unit, in our own words. Empty for a key without effect."""
    allowed: Allowed | None = None
    update: str = READ_ONLY
    synonyms: tuple[str, ...] = ()
    """For a topic property: the broker properties that give its default, the first one set wins."""
    no_effect: str = ""
    """Why the key is accepted and not acted on; empty for a key that we honour."""

    @property
    def sensitive(self) -> bool:
        return self.kind is Kind.PASSWORD

    def parse(self, text: str | None) -> Value:
        """The value that a text stands for. Raises ConfigError."""
        value = None if text is None else _parse(self.kind, text.strip(), self.name)
        if self.allowed is not None and value is not None:
            expected = self.allowed(value)
            if expected is not None:
                raise ConfigError(f"Invalid value {text} for configuration {self.name}: allowed is {expected}")
        return value


def whole_number(text: str, low: int = 0, high: int = 2**31 - 1) -> int | None:
    """The number from `low` to `high` that a text stands for, in ASCII digits; None for any other text.

    `str.isdigit` is true for text from which `int` makes no number: thousands of digits, or a superscript two.
    """
    number = int(text) if _WHOLE_NUMBER.fullmatch(text) else None
    return number if number is not None and low <= number <= high else None


def _parse(kind: Kind, text: str, name: str) -> Value:
    match kind:
        case Kind.BOOLEAN:
            lowered = text.lower()
            if lowered not in ("true", "false"):
                raise ConfigError(f"Invalid value {text} for configuration {name}: allowed is true or false")
            return lowered == "true"
        case Kind.INT | Kind.LONG | Kind.SHORT:
            return _parse_integer(kind, text, name)
        case Kind.DOUBLE:
            return _parse_double(text, name)
        case Kind.LIST:
            return [item.strip() for item in text.split(",")] if text else []
        case _:
            return text


def _parse_integer(kind: Kind, text: str, name: str) -> int:
    limit = _LIMITS[kind]
    number = whole_number(text, -limit, limit - 1)
    if number is None:
        allowed = f"a whole number from {-limit} to {limit - 1}"
        raise ConfigError(f"Invalid value {text} for configuration {name}: allowed is {allowed}")
    return number


def _parse_double(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ConfigError(f"Invalid value {text} for configuration {name}: allowed is a number")
    return value


def text_of(value: Value) -> str | None:
    """The text that Kafka's tools show for a value."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(value)
        case _:
            return str(value)


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def at_least(low: float) -> Allowed:
    return lambda value: None if isinstance(value, int | float) and value >= low else f"at least {_shown(low)}"


def between(low: float, high: float) -> Allowed:
    def check(value: Value) -> str | None:
        inside = isinstance(value, int | float) and low <= value <= high
        return None if inside else f"a number from {_shown(low)} to {_shown(high)}"

    return check


def one_of(*choices: str) -> Allowed:
    return lambda value: None if value in choices else "one of " + ", ".join(choices)


def some_of(*choices: str) -> Allowed:
    """A list of values out of these."""

    def check(value: Value) -> str | None:
        good = isinstance(value, list) and set(value) <= set(choices)
        return None if good else "a list of " + ", ".join(choices)

    return check
