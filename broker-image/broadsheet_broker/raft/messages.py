"""What goes into the Raft state machine, and what comes out of it.

Requests and answers are what Kafka's messages say, without their wrapping (`raft.protocol` has that). Times are
monotonic milliseconds, offsets are exclusive where they are called ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import ErrorCode

UNKNOWN_KEY: Final = ReplicaKey(-1)
"""A sender without an id: a tool, or a node that asks before it has one."""

HIGHEST_OFFSET: Final = 2**63 - 1

Address = tuple[str, int]
"""Host and port."""


class SnapshotId(NamedTuple):
    """What a snapshot stands for: every record below `offset`, the last of them of `epoch`."""

    offset: int
    epoch: int

    @property
    def file_name(self) -> str:
        return f"{self.offset:020d}-{self.epoch:010d}.checkpoint"


NO_SNAPSHOT: Final = SnapshotId(-1, -1)


@dataclass(frozen=True, slots=True)
class ElectionState:
    """What a replica must remember of elections when it restarts: the content of the `quorum-state` file."""

    leader_epoch: int = 0
    leader_id: int | None = None
    voted: ReplicaKey | None = None
    """Who got this replica's vote in `leader_epoch`."""


# What replicas ask each other.


@dataclass(frozen=True, slots=True)
class Vote:
    """A candidate, or with `pre_vote` a voter that may become one, asks for a vote."""

    epoch: int
    candidate: ReplicaKey
    voter: ReplicaKey
    """Who is asked; UNKNOWN_KEY before version 1."""
    last_epoch: int
    end_offset: int
    pre_vote: bool = False


@dataclass(frozen=True, slots=True)
class BeginEpoch:
    """The leader of an epoch notifies a voter that it leads."""

    epoch: int
    leader_id: int
    voter: ReplicaKey
    endpoints: dict[str, Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndEpoch:
    """The leader of an epoch gives it up."""

    epoch: int
    leader_id: int
    successors: tuple[ReplicaKey, ...] = ()
    """Who should try to follow, the best first."""
    endpoints: dict[str, Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A replica asks for what comes after its log; its log is durable up to `offset` if it votes."""

    epoch: int
    replica: ReplicaKey
    offset: int
    last_epoch: int
    """Epoch of the replica's last record."""
    high_watermark: int = HIGHEST_OFFSET
    """What the replica knows to be committed: more is worth an answer (KIP-1166)."""
    max_wait_ms: int = 0
    max_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FetchSnapshot:
    """A replica asks for a piece of a snapshot."""

    epoch: int
    replica: ReplicaKey
    snapshot: SnapshotId
    position: int
    max_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UpdateVoter:
    """A voter reports its new endpoints to the leader."""

    epoch: int
    voter: Voter


Question = Vote | BeginEpoch | EndEpoch | Fetch | FetchSnapshot | UpdateVoter


# What they answer. `epoch` and `leader_id` are what the answering replica knows; `address` is the leader's.


@dataclass(frozen=True, slots=True)
class VoteAnswer:
    error: ErrorCode
    epoch: int
    leader_id: int | None
    address: Address | None = None
    granted: bool = False


@dataclass(frozen=True, slots=True)
class EpochAnswer:
    """To BeginEpoch, EndEpoch and UpdateVoter."""

    error: ErrorCode
    epoch: int
    leader_id: int | None
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    error: ErrorCode
    epoch: int
    leader_id: int | None
    address: Address | None = None
    high_watermark: int = -1
    log_start_offset: int = -1
    diverging: tuple[int, int] | None = None
    """The leader's last epoch that is not above the replica's, and where it ended: go back to it."""
    snapshot: SnapshotId | None = None
    """What the replica lacks is gone from the log: take this snapshot."""
    records: Any = b""


@dataclass(frozen=True, slots=True)
class SnapshotAnswer:
    error: ErrorCode
    epoch: int
    leader_id: int | None
    address: Address | None = None
    snapshot: SnapshotId = NO_SNAPSHOT
    size: int = 0
    position: int = 0
    data: Any = b""


Answer = VoteAnswer | EpochAnswer | FetchAnswer | SnapshotAnswer


@dataclass(frozen=True, slots=True)
class ChangeAnswer:
    """To a change of the voters that an operator ordered."""

    error: ErrorCode
    message: str | None = None


# Into the machine.


@dataclass(frozen=True, slots=True)
class Started:
    """The log is open."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The leader's log has grown to `end_offset`; it can be read, and may not be durable yet."""

    end_offset: int


@dataclass(frozen=True, slots=True)
class FetchedAppended:
    """`AppendFetched` is done: the log ends at `end_offset`."""

    end_offset: int
    high_watermark: int
    """The leader's, as it came with the records; -1: the disk refused them."""


@dataclass(frozen=True, slots=True)
class AppendRefused:
    """The disk does not take what the leader sent; `FetchedAppended` or `SnapshotRefused` follows when it is time to
    try again."""


@dataclass(frozen=True, slots=True)
class Flushed:
    """The local log is durable up to `end_offset`."""

    end_offset: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Another replica's question; `Reply` answers it under the same token, now or later."""

    token: Any
    question: Question


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of `Send`: an answer, or None and why there is none (the kind of a PeerError)."""

    request_id: int
    answer: Answer | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class VotersChanged:
    """The newest voters that the log names are these now."""

    voters: VoterSet


@dataclass(frozen=True, slots=True)
class AddVoter:
    """An order: let this replica vote (KIP-853)."""

    token: Any
    voter: Voter
    timeout_ms: float
    ack_when_committed: bool = True


@dataclass(frozen=True, slots=True)
class RemoveVoter:
    """An order: this replica no longer votes."""

    token: Any
    key: ReplicaKey


@dataclass(frozen=True, slots=True)
class SnapshotInstalled:
    """A fetched snapshot stands for the log now, which is empty and begins at its offset."""

    id: SnapshotId


@dataclass(frozen=True, slots=True)
class SnapshotRefused:
    """A fetched snapshot cannot be used."""

    id: SnapshotId


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of the last `SetTimer` has come."""


@dataclass(frozen=True, slots=True)
class Resign:
    """Give up leading in this epoch, and go on as a voter."""


@dataclass(frozen=True, slots=True)
class ShutDown:
    """This replica is going away and should hand over what it leads."""


@dataclass(frozen=True, slots=True)
class LogFailed:
    """The local log can no longer be written or flushed; nothing this replica says about it can be trusted."""


Message = (
    Started
    | Appended
    | FetchedAppended
    | AppendRefused
    | Flushed
    | Asked
    | Answered
    | VotersChanged
    | AddVoter
    | RemoveVoter
    | SnapshotInstalled
    | SnapshotRefused
    | TimerFired
    | Resign
    | ShutDown
    | LogFailed
)


# Out of the machine, to be carried out in this order.


@dataclass(frozen=True, slots=True)
class StoreElection:
    """Write the `quorum-state` file, durably, before anything that follows."""

    state: ElectionState


@dataclass(frozen=True, slots=True)
class AppendLeaderChange:
    """Append the control record that begins an epoch of this leader."""

    epoch: int
    leader_id: int
    voters: tuple[ReplicaKey, ...]
    granting: tuple[ReplicaKey, ...]


@dataclass(frozen=True, slots=True)
class AppendVoters:
    """Append the control record that changes the voters, which are in force at once; then say `VotersChanged`."""

    voters: VoterSet


@dataclass(frozen=True, slots=True)
class AppendFetched:
    """Append what the leader sent; then say `FetchedAppended`, and `Flushed` when it is durable."""

    records: Any
    high_watermark: int
    """The leader's."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Take away the records from `offset` on."""

    offset: int


@dataclass(frozen=True, slots=True)
class StoreSnapshotPiece:
    """Write a piece of a snapshot that is being fetched. After the last one, install it: say `SnapshotInstalled`."""

    id: SnapshotId
    position: int
    data: Any
    last: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Ask another replica, by its address; exactly one `Answered` follows."""

    request_id: int
    node_id: int
    """Negative for a bootstrap server, whose id is unknown."""
    address: Address
    question: Question


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a question or an order."""

    token: Any
    answer: Answer | ChangeAnswer


@dataclass(frozen=True, slots=True)
class ReplyRecords:
    """Answer a Fetch, with what the log has from `offset` on."""

    token: Any
    answer: FetchAnswer
    offset: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class ReplySnapshot:
    """Answer a FetchSnapshot with the piece it asks for, or SNAPSHOT_NOT_FOUND or POSITION_OUT_OF_RANGE."""

    token: Any
    answer: SnapshotAnswer
    position: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """The listener learns who leads. A leader among several voters is reported with its first commit, which
    brings all that earlier leaders committed."""

    epoch: int
    leader_id: int | None


@dataclass(frozen=True, slots=True)
class HighWatermarkAdvanced:
    """Everything below `offset` is committed."""

    offset: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Wake the machine at `at_ms`; None takes the timer away."""

    at_ms: float | None


Effect = (
    StoreElection
    | AppendLeaderChange
    | AppendVoters
    | AppendFetched
    | Truncate
    | StoreSnapshotPiece
    | Send
    | Reply
    | ReplyRecords
    | ReplySnapshot
    | LeaderChanged
    | HighWatermarkAdvanced
    | SetTimer
)
