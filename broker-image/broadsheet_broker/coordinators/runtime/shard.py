"""What the runtime needs of a coordinator: the state of one partition, as a pure state machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from broadsheet_broker.coordinators.runtime.turn import Turn
from broadsheet_broker.wire.errors import ErrorCode


class Shard(Protocol):
    """The state in one partition of a coordinator's topic.

    A shard does no I/O and reads no clock. Which requests it serves is up to the coordinator, which calls it with
    a `Turn` and passes that to `CoordinatedPartition.run`.

    Deadlines belong to keys (a group, a transactional id). The runtime asks for the deadline of a key after every turn
    that named it, so a shard has no timer to cancel.
    """

    # Loading

    def replay(self, key: bytes | None, value: bytes | None, producer_id: int | None) -> None:
        """A committed record of the log, oldest first; `producer_id` when it belongs to a transaction."""
        ...

    def replay_transaction_end(self, producer_id: int, committed: bool) -> None:
        """The end marker of a transaction: its records count from here on, or not at all."""
        ...

    def loaded(self, turn: Turn) -> None:
        """The log has been read to its end, and requests follow."""
        ...

    def contents(self) -> str:
        """What has been loaded, for the log: `12 groups`."""
        ...

    # Time

    def deadlines(self) -> Iterable[str]:
        """The keys that have a deadline now. Asked for once, after `loaded`."""
        ...

    def deadline(self, key: str) -> float:
        """When to call `wake` for this key: monotonic seconds, NEVER when there is nothing to wait for. It may be
        earlier than necessary."""
        ...

    def wake(self, key: str, turn: Turn) -> None:
        """Do what is due for a key. Called at its deadline or later, also when the key is gone by then."""
        ...

    def cleanup(self, turn: Turn) -> int:
        """Remove what has expired. Called at an interval; returns the number of tombstones that this writes."""
        ...

    # The end

    def unload(self, turn: Turn, error: ErrorCode) -> None:
        """Another broker leads the partition: answer every request that waits with the error, and forget all.
        What this asks to write is not written."""
        ...
