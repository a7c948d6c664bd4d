"""What the canary's state machine asks for and is told: values between it and the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

PREFIX = b"broadsheet-canary/1"


def payload(session: str, partition: int, number: int) -> bytes:
    """The value of a canary's record. `session`: one run of one canary; `number`: counts its records of a partition."""
    return b"%s %s %d %d" % (PREFIX, session.encode(), partition, number)


def number_of(value: bytes | None, session: str, partition: int) -> int | None:
    """The number of a record that this session has sent to this partition; None for any other record."""
    parts = (value or b"").split(b" ")
    if len(parts) != 4 or parts[0] != PREFIX or parts[1] != session.encode() or not parts[3].isdigit():
        return None
    return int(parts[3]) if parts[2] == b"%d" % partition else None


# -- what is asked for -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """Read the metadata of the topic and the brokers. Answered by Looked or NotLooked."""


@dataclass(frozen=True, slots=True)
class FindEnd:
    """Find the ends of a partition's log at its leader. Answered by Found or NotFound."""

    node: int
    partition: int


@dataclass(frozen=True, slots=True)
class Send:
    """Produce one record with acks=all. Answered by Acknowledged or Refused."""

    node: int
    partition: int
    number: int


@dataclass(frozen=True, slots=True)
class Read:
    """Fetch from these offsets. Answered by Answer or NotRead."""

    node: int
    offsets: Mapping[int, int]


Effect = Look | FindEnd | Send | Read


# -- what happened -----------------------------------------------------------------------------------------------------
# `at` is when, in monotonic seconds, taken where the bytes arrive.


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """A partition of the topic, as metadata has it."""

    leader: int | None
    preferred: int | None
    """The first replica."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The topic; `topic_id` None: there is none of the name."""

    at: float
    topic_id: str | None
    partitions: Mapping[int, PartitionPlace] = field(default_factory=dict)
    brokers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class NotLooked:
    """No broker answered, or the topic may not be described."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Found:
    """The log of a partition: its first offset, and the one after its last committed record."""

    at: float
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class NotFound:
    """The leader did not say."""

    at: float
    partition: int
    words: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A record is stored in all replicas that are in sync."""

    at: float
    node: int
    partition: int
    number: int
    offset: int


class Outcome(Enum):
    """What an error says about a record."""

    NOT_STORED = "not stored"
    """It was refused, or never sent: it may be sent again."""
    UNKNOWN = "unknown"
    """It may be stored: when it is sent again there may be two of it."""
    FINAL = "final"
    """Sending it again is useless."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record was not acknowledged."""

    at: float
    node: int
    partition: int
    number: int
    outcome: Outcome
    words: str


@dataclass(frozen=True, slots=True)
class PartitionRead:
    """What a Fetch has of a partition."""

    start: int = 0
    """First offset of the log."""
    records: tuple[tuple[int, bytes | None], ...] = ()
    """Offsets and values."""
    next_offset: int | None = None
    """Where to read on: behind the last batch; None: where this read began."""
    error: str = ""
    """Kafka's name of the error; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A Fetch was answered."""

    at: float
    node: int
    asked_at: float
    partitions: Mapping[int, PartitionRead]


@dataclass(frozen=True, slots=True)
class NotRead:
    """A Fetch was not answered."""

    at: float
    node: int
    words: str


@dataclass(frozen=True, slots=True)
class NotConnected:
    """A connection to a broker could not be made."""

    at: float
    node: int
    words: str


Event = Looked | NotLooked | Found | NotFound | Acknowledged | Refused | Answer | NotRead | NotConnected
