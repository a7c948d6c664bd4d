"""Maintenance windows: whether an action that clients may notice is allowed now, and what it waits for. Pure.

Disruptive is what takes a broker away or moves data: the restart of a broker that serves (a new configuration, image or
volume size), a drain, a rebalance, a change of a replication factor. Everything else goes on at any time: creating,
growing, changing settings that need no restart, and the restart of a broker that is not ready.

A window opens by the clock on the wall of its time zone and stays open for real hours, so that it is neither longer
nor shorter on the nights when clocks are changed. An opening that falls into the hour that is left out in spring comes
when that hour has passed, as with Debian's cron. Where clocks change by half an hour (Lord Howe Island), a schedule
without a fixed hour may miss an opening that night: cronsim steps over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from broadsheet_operator.api.maintenance import MaintenanceWindow
from broadsheet_operator.api.quantities import parse_duration

_CHANGE_OF_CLOCKS = timedelta(hours=2)
"""Longer than any change of clocks."""


def allows(windows: Sequence[MaintenanceWindow], now: datetime) -> tuple[bool, str]:
    """Whether a disruptive action may begin at `now` (a time with a zone), and words for a status.

    No windows at all allow everything, and there is nothing to say. The words are either
    "waits for the maintenance window that opens 2026-11-28 02:00 Europe/Berlin" or
    "the maintenance window is open until 2026-11-28 06:00 Europe/Berlin".
    """
    if not windows:
        return True, ""
    now = now.astimezone(UTC)  # within one zone Python adds hours to the clock on the wall, which may jump
    closings = [(close, w) for w in windows if (close := _closing(w, now)) is not None]
    if closings:
        close, window = max(closings, key=lambda found: found[0])
        return True, f"the maintenance window is open until {_clock(close, window)}"
    opening, window = min(((next(_openings(w, now)), w) for w in windows), key=lambda found: found[0])
    return False, f"waits for the maintenance window that opens {_clock(opening, window)}"


def _closing(window: MaintenanceWindow, now: datetime) -> datetime | None:
    """When this window closes (UTC), if it is open."""
    duration = timedelta(milliseconds=parse_duration(window.duration))
    before = next(CronSim(window.schedule, now.astimezone(ZoneInfo(window.time_zone)), reverse=True))
    # A search backwards compares the clocks on the wall, and on the night when an hour comes twice it takes an opening
    # of the first one for one to come. So search forwards from a little before what it found.
    last = None
    for opening in _openings(window, max(now - duration, before.astimezone(UTC) - _CHANGE_OF_CLOCKS)):
        if opening > now:
            break
        last = opening
    return last + duration if last is not None and now < last + duration else None


def _openings(window: MaintenanceWindow, after: datetime) -> Iterator[datetime]:
    """Openings (UTC) after a time. There is always one: a schedule whose day never comes is refused by the model."""
    for opening in CronSim(window.schedule, after.astimezone(ZoneInfo(window.time_zone))):
        moment = opening.astimezone(UTC)
        if moment > after:  # in the hour that comes twice, the search also finds what was due in the first one
            yield moment


def _clock(moment: datetime, window: MaintenanceWindow) -> str:
    """The time as people of that zone read it."""
    return f"{moment.astimezone(ZoneInfo(window.time_zone)):%Y-%m-%d %H:%M} {window.time_zone}"
