"""Log lines that a client can cause with every request, written at most once per interval with a count."""

from __future__ import annotations

import logging
from typing import Final

INTERVAL_SECONDS: Final = 60.0
"""Between two lines of one kind."""


class Notices:
    """Remembers when each kind of line was written. Kinds are constant format strings, so there are few."""

    __slots__ = ("_counts", "_written")

    def __init__(self) -> None:
        self._written: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def warn(self, logger: logging.Logger, now: float, kind: str, *arguments: object) -> None:
        """Log `kind`, a format with these arguments, unless a line of that kind was written less than a minute ago.

        `now` is in monotonic seconds.
        """
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        written = self._written.get(kind)
        if written is None or now - written >= INTERVAL_SECONDS:
            self._written[kind] = now
            self._counts[kind] = 0
            suffix = f" ({count} times since the last such line)" if written is not None else ""
            logger.warning("%s%s", kind % arguments, suffix)
