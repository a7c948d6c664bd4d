"""What clients of a Kafka cluster did and saw, as plain values: the input of the history checker.

Whoever drives the clients (the simulation, the tests with real faults) appends operations to a `History` in the order
in which they ended. Times are seconds on one clock, only ever compared with each other. Values are
unique: a value names the one send that wrote it, so that a record that is read tells who wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

Partition = tuple[str, int]
"""Topic and index."""

OUT_OF_RANGE = "out of range"
"""Why a consumer seeks when the log no longer has, or does not have yet, what it wants."""

UNKNOWN_OFFSET = -1
"""The broker acknowledged without saying where (a duplicate whose place it forgot), or never answered."""


class Outcome(Enum):
    """How an operation ended, as far as its client can know."""

    OK = "ok"
    """It happened."""
    FAILED = "failed"
    """It was refused for good: it did not happen, and never will."""
    UNKNOWN = "unknown"
    """No answer, or one that leaves it open: it may have happened, or happen later."""


class Send(NamedTuple):
    """A record that a producer handed to the cluster, with all its retries."""

    producer: str
    number: int
    """Its place among the sends of this producer, in the order in which the application made them."""
    partition: Partition
    value: str
    acks: int
    """0, 1, or -1 for all."""
    outcome: Outcome
    invoked: float
    completed: float
    """Of an unknown outcome: when the producer gave up."""
    offset: int = UNKNOWN_OFFSET
    ordered: bool = True
    """The producer promises order and no duplicates (idempotence)."""
    transaction: str | None = None


class Poll(NamedTuple):
    """A record that a consumer was given."""

    consumer: str
    time: float
    partition: Partition
    offset: int
    value: str
    transaction: str | None = None
    """The transaction in which it was consumed, when its results were produced in one."""
    asked: float | None = None
    """When the request was sent that brought it; matters around a `Loss` only."""


class Seek(NamedTuple):
    """A consumer begins at an offset: assigned, sought, or reset because its offset was out of range."""

    consumer: str
    time: float
    partition: Partition
    offset: int
    reason: str = "assigned"


class Commit(NamedTuple):
    """A group stores its place in a partition."""

    group: str
    partition: Partition
    offset: int
    outcome: Outcome
    invoked: float
    completed: float


class ReadCommit(NamedTuple):
    """A group asks for its stored place; -1 when there is none. Only answers are recorded."""

    group: str
    partition: Partition
    offset: int
    invoked: float
    completed: float


class Transaction(NamedTuple):
    """How a transaction ended."""

    name: str
    outcome: Outcome
    """OK: committed. FAILED: aborted. UNKNOWN: nobody can say."""
    completed: float


class Loss(NamedTuple):
    """A fault after which the cluster may have lost the newest acknowledged records: no power for all replicas at once.

    Only a suffix of each partition may be gone: what is lost has nothing older than itself after it.
    """

    time: float


class Final(NamedTuple):
    """All of a partition when everything had healed, read from the log's start to its end."""

    partition: Partition
    start: int
    end: int
    records: Sequence[tuple[int, str]]
    """Offset and value, in the order of the log. Offsets may have gaps: markers of transactions, compaction."""


@dataclass(slots=True)
class History:
    """Everything that happened. Lists are in the order in which operations ended."""

    sends: list[Send] = field(default_factory=list)
    reads: list[Poll | Seek] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    committed: list[ReadCommit] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    durable_acks: frozenset[int] = frozenset({-1})
    """With which acks an acknowledged record may not get lost by the faults of this run. With several replicas only
    all (-1); with one replica also 1, as long as its disk keeps what was written."""
