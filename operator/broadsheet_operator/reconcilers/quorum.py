"""Decides which brokers vote in the metadata quorum of a Cluster, and the next change on the way there. Pure.

One voter for one or two brokers, three for three and more: a quorum of two would stop with either of them, and more
than three voters make every change of metadata slower without need. The voters are the brokers with the lowest ids,
because those are the last to go when a Cluster shrinks.

Voters change one at a time through Kafka's own orders (KIP-853), and only while the voters that remain are heard of:
a change is committed by a majority of the *new* voters, so one that takes the majority away would stop the cluster.
A broker that lost its volume comes back with another directory id: the old voter, which will never speak again, is
removed first and the new one added when it has caught up.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broadsheet_operator.reconcilers.observed import QuorumView, ReplicaView

HEARD_SECONDS = 5.0
"""A replica that has fetched within this time is alive; a follower fetches at least twice a second."""
LOST_SECONDS = 10.0
"""A voter that is silent for this long, and whose broker fetches from another directory, has lost its volume."""
CAUGHT_UP_RECORDS = 1000
"""An observer that lacks no more than these is ready to be added; the leader waits for the rest of the way."""
LISTENER = "CONTROLLER"


@dataclass(frozen=True, slots=True)
class AddVoter:
    """Let an observer vote."""

    id: int
    directory: str
    host: str
    port: int
    listener: str = LISTENER

    def words(self) -> str:
        """For events and logs."""
        return f"add broker {self.id} to the metadata quorum"


@dataclass(frozen=True, slots=True)
class RemoveVoter:
    """Take a vote away."""

    id: int
    directory: str
    why: str = ""

    def words(self) -> str:
        """For events and logs."""
        return f"remove broker {self.id} from the metadata quorum{f': {self.why}' if self.why else ''}"


VoterChange = AddVoter | RemoveVoter


@dataclass(frozen=True, slots=True)
class QuorumStep:
    """What is to be done about the voters now."""

    change: VoterChange | None = None
    words: str = ""
    """What is going on or waited for; empty when the right brokers vote."""


def wanted_voters(brokers: int) -> tuple[int, ...]:
    """Ids of the voters of a Cluster with this number of brokers."""
    return (0, 1, 2) if brokers >= 3 else (0,)


def initial_directory(cluster_id: str, broker: int) -> str:
    """The directory id (base64url, as Kafka writes it) with which a first voter formats its first volume.

    All first voters must know each other's before any of them has started, so it follows from the cluster's id.
    """
    value = uuid.uuid5(uuid.NAMESPACE_URL, f"broadsheet:{cluster_id}/{broker}")
    text = base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text  # Kafka's tools would take it for an option


def next_change(quorum: QuorumView, wanted: Collection[int], addresses: Mapping[int, tuple[str, int]]) -> QuorumStep:
    """`addresses`: host and port of the controller listener of each broker that may vote."""
    for voter in quorum.voters:
        if voter.id in wanted and _has_lost_volume(voter, quorum):
            return _remove(voter, quorum, "its volume is another one now")
    missing = sorted(set(wanted) - {voter.id for voter in quorum.voters})
    for id in missing:
        ready = next((o for o in quorum.observers if o.id == id and _is_heard(o, quorum)), None)
        if ready is not None and id in addresses:
            host, port = addresses[id]
            return QuorumStep(AddVoter(id, ready.directory, host, port), f"broker {id} joins the metadata quorum")
    if missing:
        names = ", ".join(map(str, missing))
        return QuorumStep(None, f"waiting until broker {names} has the cluster's metadata, to let it vote")
    leaving = sorted((v for v in quorum.voters if v.id not in wanted), key=lambda v: (v.id == quorum.leader, -v.id))
    if leaving:
        return _remove(leaving[0], quorum, "")
    return QuorumStep()


def unsafe_to_stop(quorum: QuorumView) -> dict[int, str]:
    """For each voter that must keep running, why: the other voters that are unreachable.

    The only voter of its quorum is not one of them: there is no other to wait for.
    """
    majority = len(quorum.voters) // 2 + 1
    result = {}
    for voter in quorum.voters:
        others = [other for other in quorum.voters if other.id != voter.id]
        alive = [other for other in others if _is_heard(other, quorum)]
        if others and len(alive) < majority:
            silent = ", ".join(str(other.id) for other in others if other not in alive)
            because = f"broker {silent} is not up to date" if silent else f"it has {len(quorum.voters)} voters only"
            result[voter.id] = f"the metadata quorum would lose its majority ({because})"
    return result


def _remove(voter: ReplicaView, quorum: QuorumView, why: str) -> QuorumStep:
    others = [other for other in quorum.voters if other is not voter]
    alive = sum(_is_heard(other, quorum) for other in others)
    if alive < len(others) // 2 + 1:
        words = f"broker {voter.id} keeps its vote: the metadata quorum would have no majority without it"
        return QuorumStep(None, words)
    return QuorumStep(RemoveVoter(voter.id, voter.directory, why), f"broker {voter.id} leaves the metadata quorum")


def _has_lost_volume(voter: ReplicaView, quorum: QuorumView) -> bool:
    silent = voter.silent_seconds is None or voter.silent_seconds > LOST_SECONDS
    another = any(
        o.id == voter.id and o.directory != voter.directory and _is_heard(o, quorum) for o in quorum.observers
    )
    return silent and another and voter.id != quorum.leader


def _is_heard(replica: ReplicaView, quorum: QuorumView) -> bool:
    if replica.id == quorum.leader and replica in quorum.voters:
        return True
    silent = replica.silent_seconds
    return silent is not None and silent <= HEARD_SECONDS and not _is_far_behind(replica, quorum)


def _is_far_behind(replica: ReplicaView, quorum: QuorumView) -> bool:
    return quorum.high_watermark - replica.end_offset > CAUGHT_UP_RECORDS
