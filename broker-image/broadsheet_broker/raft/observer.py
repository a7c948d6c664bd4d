"""What a replica does that has no leader to follow: it asks those who may know one.

Voters do so too while they wait for an election; a replica without a vote (a broker, a controller that joins) can do
nothing else. Any Fetch is answered with what the other knows of epoch and leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.raft.messages import Address
from broadsheet_broker.raft.role_state import NEVER

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft


def find_leader(raft: Raft) -> float:
    """Ask one node at a time, at random; returns when to call again (an answer is a reason of its own)."""
    if not raft.may_fetch:
        return NEVER  # a fetch from the end of a log that is not durable would count as its acknowledgement
    informants = _informants(raft)
    if any(raft.outbox.is_waiting(id) for id in informants):
        return NEVER
    waits = {id: raft.outbox.ready_at(id, raft.now_ms) for id in informants}
    ready = [id for id, at in waits.items() if at <= raft.now_ms]
    if not ready:
        return min(waits.values(), default=NEVER)
    id = raft.random.choice(ready)
    raft.send(id, informants[id], raft.make_fetch(max_wait_ms=0))
    return NEVER


def _informants(raft: Raft) -> dict[int, Address]:
    """Voters by their ids; bootstrap servers, whose ids are unknown, by negative ones, as Kafka does."""
    voters = {
        id: voter.address
        for id, voter in sorted(raft.voters.voters.items())
        if id != raft.local.id and voter.address is not None
    }
    servers = {-2 - number: address for number, address in enumerate(raft.bootstrap_servers)}
    return {**voters, **servers}
