"""What all coordinators are configured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class IntegerSettings(Protocol):
    """The part of the broker's configuration that coordinators read."""

    def get_int(self, name: str, /) -> int: ...


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Bounds and intervals of a coordinator's partitions."""

    write_timeout_ms: int = 5_000
    """After this time a write that is not committed is answered as timed out; it may still be committed later."""
    cleanup_interval_ms: int = 600_000
    """Time between two calls of `Shard.cleanup`."""
    topic_partitions: int = 50
    """How many partitions the topic will have, while it does not exist."""
    max_batch_bytes: int = 1_000_000
    """The largest batch that is written, a little under the default of `max.message.bytes`."""
    max_waiting_writes: int = 10_000
    """Writes of one partition that are not committed yet; when they are reached, further ones are refused."""
    max_waiting_bytes: int = 4_000_000
    """The same for the bytes of their records."""
