"""What passes between a coordinator's state machine and the shell around it.

The state machine never writes, waits or reads a clock. A `Turn` carries the moment of a step into it, and carries out
what the step asks for: records to write, and answers to give. Timers are plain deadlines (see `Shard.deadline`), so
nothing has to be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broadsheet_broker.wire.errors import ErrorCode

Record = tuple[bytes, bytes | None]
"""Key and value of a record in the coordinator's topic; without a value it is a tombstone."""

RECORD_OVERHEAD = 32
"""Bytes of a record beside its key and value, at most."""

NEVER = float("inf")
"""A deadline that never comes."""


Step = Callable[["Turn", ErrorCode], None]
"""Called when a write is committed or has failed."""


class Write:
    """Records that must be in the log together (one batch), and what to do when they are committed or have failed."""

    __slots__ = ("apply", "done", "key", "records", "size")

    def __init__(
        self,
        records: list[Record],
        done: Step | None = None,
        apply: Step | None = None,
        key: str | None = None,
    ) -> None:
        self.records = records
        self.size = sum(len(key) + len(value or b"") + RECORD_OVERHEAD for key, value in records)
        """Bytes that the records take in a batch, at most."""
        self.key = key
        """Whose deadline `apply` and `done` may change."""
        self.done = done
        """Gives the answers. Called exactly once: with NONE when the records are committed, with the error that a
        client may see when they are not, or not within `RuntimeSettings.write_timeout_ms`."""
        self.apply = apply
        """Brings memory to the state of the log. Called exactly once and before `done`, unless that gave up earlier:
        with NONE when the records are committed, however late, with an error when they never will be."""


class Turn:
    """One step of a state machine: the moment, and the writes and replies that it asks for."""

    __slots__ = ("now", "replies", "time_ms", "writes")

    def __init__(self, now: float, time_ms: int) -> None:
        self.now = now
        """Seconds of a clock that never steps back: deadlines."""
        self.time_ms = time_ms
        """Wall clock, milliseconds since the Unix epoch: timestamps in records."""
        self.replies: list[tuple[Callable[[Any], None], Any]] = []
        self.writes: list[Write] = []

    def reply(self, callback: Callable[[Any], None], message: Any) -> None:
        """Answer a request after this step."""
        self.replies.append((callback, message))

    def write(
        self,
        records: list[Record],
        done: Step | None = None,
        apply: Step | None = None,
        key: str | None = None,
    ) -> Write:
        """Append records to the log after this step, in order with all other writes of the partition."""
        write = Write(records, done, apply, key)
        self.writes.append(write)
        return write
