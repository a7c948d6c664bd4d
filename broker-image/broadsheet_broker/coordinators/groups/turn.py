"""What passes between the state machines of groups and the shell around them.

The state machines never write, wait or read a clock. A `Turn` carries the moment of a step into them, and carries out
what the step asks for: records to write, and answers to give. Timers are plain deadlines on the groups (see
`ClassicGroup.wake_at`), so nothing has to be cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from broadsheet_broker.wire.errors import ErrorCode

log = logging.getLogger("broadsheet_broker.coordinators.groups")

Record = tuple[bytes, bytes | None]
"""Key and value of a record in `__consumer_offsets`; without a value it is a tombstone."""

NEVER = float("inf")
"""A deadline that does not come."""


class Write:
    """Records that must be in the log together (one batch), and what follows once their fate is known."""

    __slots__ = ("apply", "done", "group_id", "records")

    def __init__(
        self,
        records: list[Record],
        done: Callable[[Turn, ErrorCode], None] | None = None,
        apply: Callable[[Turn, ErrorCode], None] | None = None,
        group_id: str | None = None,
    ) -> None:
        self.records = records
        self.group_id = group_id
        """The group whose deadlines `done` may change."""
        self.done = done
        """Gives the answers. Called exactly once: with NONE when the records are committed, with the error that a
        client may see when they are not, or not within `offsets.commit.timeout.ms`."""
        self.apply = apply
        """Brings memory to the state of the log. Called exactly once and before `done`, unless that gave up earlier:
        with NONE when the records are committed, however late, with an error when they never will be."""


class Turn:
    """One step of the state machines: when it happens, and what it wants done."""

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
        done: Callable[[Turn, ErrorCode], None] | None = None,
        apply: Callable[[Turn, ErrorCode], None] | None = None,
        group_id: str | None = None,
    ) -> Write:
        """Append records to the log after this step, in order with all other writes of the partition."""
        write = Write(records, done, apply, group_id)
        self.writes.append(write)
        return write


@dataclass(slots=True)
class Context:
    """Who asks, and in which version of the API."""

    client_id: str
    client_host: str
    """Address without port."""
    version: int


class IntegerSettings(Protocol):
    """The part of the broker's configuration that groups read."""

    def get_int(self, name: str, /) -> int: ...


@dataclass(slots=True)
class GroupSettings:
    """Kafka's properties of the group coordinator, with its defaults."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2_147_483_647
    initial_rebalance_delay_ms: int = 3_000
    new_member_join_timeout_ms: int = 300_000
    """How long a new member may wait in its first join. Kafka has no property for it."""
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 7 * 24 * 3_600_000
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    offsets_topic_partitions: int = 50
    max_batch_bytes: int = 1_000_000
    """The largest batch that the coordinator writes, a little under the default of `max.message.bytes`."""

    @classmethod
    def of(cls, config: IntegerSettings) -> GroupSettings:
        """From the broker's configuration."""
        get = config.get_int
        return cls(
            min_session_timeout_ms=get("group.min.session.timeout.ms"),
            max_session_timeout_ms=get("group.max.session.timeout.ms"),
            max_size=get("group.max.size"),
            initial_rebalance_delay_ms=get("group.initial.rebalance.delay.ms"),
            offset_metadata_max_bytes=get("offset.metadata.max.bytes"),
            offsets_retention_ms=get("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms=get("offsets.retention.check.interval.ms"),
            offsets_commit_timeout_ms=get("offsets.commit.timeout.ms"),
            offsets_topic_partitions=get("offsets.topic.num.partitions"),
        )


_CLIENT_ERRORS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.INVALID_FETCH_SIZE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def client_error(error: ErrorCode) -> ErrorCode:
    """The error of an append, as a client of the coordinator understands it (Kafka maps the same way)."""
    return _CLIENT_ERRORS.get(error, error)
