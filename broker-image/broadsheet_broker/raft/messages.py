"""What goes into the Raft state machine, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from broadsheet_broker.raft.voters import ReplicaKey


@dataclass(frozen=True, slots=True)
class ElectionState:
    """What a replica must remember of elections when it restarts: the content of the `quorum-state` file."""

    leader_epoch: int = 0
    leader_id: int | None = None
    voted: ReplicaKey | None = None
    """Who got this replica's vote in `leader_epoch`."""


# Into the machine.


@dataclass(frozen=True, slots=True)
class Started:
    """The log is open and holds records up to `end_offset`, the last of them of `last_epoch`."""

    end_offset: int
    last_epoch: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """The local log is durable up to `end_offset` (exclusive)."""

    end_offset: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The deadline of the last `SetTimer` has passed."""


@dataclass(frozen=True, slots=True)
class ShutDown:
    """This replica is going away and should hand over what it leads."""


@dataclass(frozen=True, slots=True)
class LogFailed:
    """The local log can no longer be written or flushed; nothing this replica says about it can be trusted."""


Message = Started | Flushed | TimerFired | ShutDown | LogFailed


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
class LeaderChanged:
    """The listener learns who leads; the leader itself may append from now on."""

    epoch: int
    leader_id: int | None


@dataclass(frozen=True, slots=True)
class HighWatermarkAdvanced:
    """Everything below `offset` is committed."""

    offset: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Wake the machine at `at_ms` (monotonic milliseconds); None takes the timer away."""

    at_ms: float | None


Effect = StoreElection | AppendLeaderChange | LeaderChanged | HighWatermarkAdvanced | SetTimer
