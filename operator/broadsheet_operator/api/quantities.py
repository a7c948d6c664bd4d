"""Durations and sizes as people write them: `7d`, `12h`, `500ms`; `10Gi`, `1G`.

A duration is one or more numbers with a unit (`1h30m`), a size is a Kubernetes quantity of bytes. `unlimited` stands
for Kafka's -1. Each form is one regular expression, so that the API server (the CRD's `pattern`) and pydantic agree.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

UNLIMITED = "unlimited"

DURATION_PATTERN = r"^([0-9]{1,12}(ms|s|m|h|d|w))+$"
RETENTION_TIME_PATTERN = r"^(([0-9]{1,12}(ms|s|m|h|d|w))+|unlimited)$"
SIZE_PATTERN = r"^[0-9]{1,15}([.][0-9]{1,3})?([kMGTP]|[KMGTP]i)?$"
RETENTION_SIZE_PATTERN = r"^([0-9]{1,15}([.][0-9]{1,3})?([kMGTP]|[KMGTP]i)?|unlimited)$"

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BYTES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_LARGEST = 2**63 - 1
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")}
_FACTORS |= {unit: Decimal(1000**power) for power, unit in enumerate("kMGTPE", 1)}
_FACTORS |= {f"{unit}i": Decimal(1024**power) for power, unit in enumerate("KMGTPE", 1)}

DURATION_HELP = "a number with a unit: ms, s, m, h, d or w, as in 500ms, 12h, 7d or 1h30m"
SIZE_HELP = "bytes with an optional unit: k, M, G, T, P or Ki, Mi, Gi, Ti, Pi, as in 500Mi, 10Gi or 1G"
QUANTITY_PATTERN = r"^[0-9]+([.][0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?$"
QUANTITY_HELP = "a number with an optional unit: m, k, M, G or Ki, Mi, Gi, as in 500m, 1.5 or 2Gi"
RETENTION_TIME_HELP = f"{DURATION_HELP}; or unlimited"
RETENTION_SIZE_HELP = f"{SIZE_HELP}; or unlimited"


def parse_duration(text: str) -> int:
    """Milliseconds of `7d`, `1h30m`, `500ms`; -1 for `unlimited`. ValueError says what is allowed."""
    if text == UNLIMITED:
        return -1
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"write {DURATION_HELP}")
    total = sum(int(n) * _MILLISECONDS[unit] for n, unit in re.findall(r"([0-9]+)(ms|s|m|h|d|w)", text))
    if total > _LARGEST:
        raise ValueError("this is longer than Kafka can count in milliseconds; write unlimited")
    return total


def parse_size(text: str) -> int:
    """Bytes of `10Gi`, `1G`, `1.5Mi`, `1024`; -1 for `unlimited`. ValueError says what is allowed."""
    if text == UNLIMITED:
        return -1
    found = re.match(r"^([0-9]+)(?:[.]([0-9]{1,3}))?([kMGTP]i?|Ki)?$", text) if re.match(SIZE_PATTERN, text) else None
    if not found:
        raise ValueError(f"write {SIZE_HELP}")
    whole, fraction, unit = found.groups()
    factor = _BYTES[unit or ""]
    total = int(whole) * factor + (int(fraction.ljust(3, "0")) * factor // 1000 if fraction else 0)
    if total > _LARGEST:
        raise ValueError("this is more bytes than Kafka can count; write unlimited")
    return total


def parse_quantity(value: str | int) -> Decimal:
    """A quantity of Kubernetes, as `500m`, `1.5` or `2Gi`. ValueError says what is allowed."""
    found = re.match(QUANTITY_PATTERN, str(value))
    if not found:
        raise ValueError(f"write {QUANTITY_HELP}")
    unit = str(found[2] or "")
    return Decimal(str(value).removesuffix(unit)) * _FACTORS[unit]


def format_duration(milliseconds: int | float) -> str:
    """The two largest units of a span, as `kubectl get` writes ages: `3d4h`, `12m`, `41s`, `250ms`."""
    if milliseconds < 0:
        return UNLIMITED
    whole = int(milliseconds)
    if whole < 1000:
        return f"{whole}ms"
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, _MILLISECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return "".join(parts)


def format_size(size_bytes: int) -> str:
    """Bytes in two or three significant figures: `0`, `512`, `1.2Ki`, `340Mi`. Coarse, so that a status settles."""
    if size_bytes < 0:
        return UNLIMITED
    if size_bytes < 1024:
        return str(size_bytes)
    value = float(size_bytes)
    for unit in ("Ki", "Mi", "Gi", "Ti", "Pi"):
        value /= 1024
        if value < 1000 or unit == "Pi":
            break
    return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"


def format_rate(size_bytes: int) -> str:
    """Bytes exactly, with the unit that makes it shortest: `50Mi`, `100k`; the text is the one that was written."""
    units = [(unit, factor) for unit, factor in _BYTES.items() if size_bytes % factor == 0]
    return min((f"{size_bytes // factor}{unit}" for unit, factor in reversed(units)), key=len)


def text_of_duration(value: object) -> object:
    """The value before it is read as a duration; a bare number is refused, because YAML makes it of `interval: 5`."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"a number without a unit could mean anything; write {value}ms, or {DURATION_HELP}")
    return value


def _text_of_size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f'write "{value}" in quotes, or {SIZE_HELP}')
    return value


def _check_duration(value: str) -> str:
    parse_duration(value)
    return value


def _check_size(value: str) -> str:
    parse_size(value)
    return value


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with a zone, as `2026-01-31T08:00:00Z`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a time with its zone, as in 2026-01-31T08:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("the zone is missing; write a time as in 2026-01-31T08:00:00Z")
    return moment


def _check_time(value: object) -> object:
    if isinstance(value, datetime):
        # YAML reads an unquoted time as a datetime of its own; without a zone it means UTC there.
        return value.strftime("%Y-%m-%dT%H:%M:%S") + "Z" if value.tzinfo is None else value.isoformat()
    if isinstance(value, str):
        parse_time(value)
    return value


Duration = Annotated[
    str,
    BeforeValidator(text_of_duration),
    Field(
        pattern=DURATION_PATTERN,
        max_length=64,
        json_schema_extra={"pattern": DURATION_PATTERN, "x-help": DURATION_HELP},
    ),
    AfterValidator(_check_duration),
]
RetentionTime = Annotated[
    str,
    BeforeValidator(text_of_duration),
    Field(
        pattern=RETENTION_TIME_PATTERN,
        max_length=64,
        json_schema_extra={"pattern": RETENTION_TIME_PATTERN, "x-help": RETENTION_TIME_HELP},
    ),
    AfterValidator(_check_duration),
]
Size = Annotated[
    str,
    BeforeValidator(_text_of_size),
    Field(pattern=SIZE_PATTERN, max_length=24, json_schema_extra={"pattern": SIZE_PATTERN, "x-help": SIZE_HELP}),
    AfterValidator(_check_size),
]
RetentionSize = Annotated[
    str,
    BeforeValidator(_text_of_size),
    Field(
        pattern=RETENTION_SIZE_PATTERN,
        max_length=24,
        json_schema_extra={"pattern": RETENTION_SIZE_PATTERN, "x-help": RETENTION_SIZE_HELP},
    ),
    AfterValidator(_check_size),
]
Time = Annotated[str, BeforeValidator(_check_time), Field(max_length=40, json_schema_extra={"format": "date-time"})]
