"""Maintenance windows: when actions that clients may notice are allowed.

A window is `schedule`, `duration` and `timeZone`, as a CronJob and an Argo CD sync window have them. The schedule is
checked twice, alike: by `SCHEDULE_PATTERN` in the API server, and here by the parser that the operator goes by.
"""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime
from typing import Annotated

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, StringConstraints

from broadsheet_operator.api.meta import SpecModel

SCHEDULE_HELP = (
    "write minute, hour, day of the month, month and day of the week, as cron has them: "
    '"0 2 * * 6" is Saturdays at two, "30 1 * * 1-5" working days at half past one, "0 3 * * 0#1" first Sundays'
)
WINDOW_DURATION_PATTERN = r"^([1-9][0-9]{0,3}(m|h|d))+$"
WINDOW_DURATION_HELP = "a number with a unit, m, h or d, as in 90m, 4h or 1h30m"
TIME_ZONE_PATTERN = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"


def _cron_field(number: str, names: str = "", whole: str = "") -> str:
    """The regular expression of one field: lists of numbers, names, ranges and steps; `whole` are terms of its own."""
    value = rf"({number}|{names})" if names else rf"({number})"
    term = rf"([*]|{value}(-{value})?)(/[1-9][0-9]?)?"
    if whole:
        term = f"({term}|{whole})"
    return f"{term}(,{term})*"


_DAYS = "(?i:sun|mon|tue|wed|thu|fri|sat)"
_MONTHS = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
SCHEDULE_PATTERN = "^{}$".format(
    " +".join(
        (
            _cron_field("[0-5]?[0-9]"),
            _cron_field("[01]?[0-9]|2[0-3]"),
            _cron_field("0?[1-9]|[12][0-9]|3[01]", whole="[lL][wW]?"),
            _cron_field("0?[1-9]|1[0-2]", _MONTHS),
            _cron_field("[0-7]", _DAYS, whole=f"([0-7]|{_DAYS})#[1-5]|[0-7][lL]"),
        )
    )
)
"""Five fields of cron in the syntax that Go and Python share. Only a range that runs backwards gets past it."""


def _check_schedule(value: str) -> str:
    fields = value.split()
    if len(fields) != 5:
        raise ValueError(f"a schedule has five fields, this has {len(fields)}; {SCHEDULE_HELP}")
    try:
        CronSim(value, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        what = str(error).removeprefix("Bad ").replace("-", " ")
        raise ValueError(f"the {what} is not one that cron knows, or never comes; {SCHEDULE_HELP}") from None
    return value


def _check_time_zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = {name.lower(): name for name in zoneinfo.available_timezones()}
        near = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.6)
        hint = f"did you mean {known[near[0]]}?" if near else "write one as in Europe/Berlin or UTC"
        raise ValueError(f"there is no such time zone; {hint}") from None
    return value


class MaintenanceWindow(SpecModel):
    """A time in which actions that clients may notice are allowed."""

    schedule: Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_schedule)]
    """When it opens, as cron has it: minute, hour, day of the month, month, day of the week. "0 2 * * 6" is Saturdays
    at two."""
    duration: Annotated[
        str,
        Field(
            pattern=WINDOW_DURATION_PATTERN,
            max_length=24,
            json_schema_extra={"pattern": WINDOW_DURATION_PATTERN, "x-help": WINDOW_DURATION_HELP},
        ),
    ]
    """How long it stays open: 90m, 4h, 1d. What has begun is finished when it closes; nothing new begins."""
    time_zone: Annotated[
        str, StringConstraints(pattern=TIME_ZONE_PATTERN, max_length=64), AfterValidator(_check_time_zone)
    ] = "UTC"
    """The time zone of the schedule: Europe/Berlin. Left out: UTC."""
