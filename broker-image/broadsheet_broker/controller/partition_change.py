"""One change of a partition: from its target (ISR, replicas) to the record for it, elections included.

The rules are those of Kafka's PartitionChangeBuilder (KIP-455, KIP-704, KIP-841, KIP-966):

* A leader is an acceptable broker of the ISR, in the order of the replica list; the present leader stays if it can.
* A replica outside the ISR is elected only where the topic allows it or an operator asks for it. Then the ISR is that
  replica alone, and the partition is marked as recovering.
* The last member never leaves the ISR, unless eligible leader replicas (ELR) are on: then the ISR may be empty, and
  a replica that left it while it was below min.insync.replicas, and did not stop uncleanly since, is elected.
* A reassignment is complete as soon as all replicas that it adds are in sync: then those that it removes go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple
from uuid import UUID

from broadsheet_broker.metadata.delta import LEADER_UNCHANGED
from broadsheet_broker.metadata.image import DIRECTORY_UNASSIGNED, NO_LEADER, PartitionImage
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord

RECOVERED: Final = 0
RECOVERING: Final = 1
"""Leader recovery states (KIP-704)."""

IsAcceptable = Callable[[int], bool]


class Election(Enum):
    """Which replicas may be elected."""

    PREFERRED = auto()
    """The first of the replica list, even though the present leader could stay."""
    ONLINE = auto()
    """Replicas that have every committed record."""
    UNCLEAN = auto()
    """Any replica if no other one can lead: records that only other replicas have are lost."""


class Rules(NamedTuple):
    """What the topic says about elections."""

    unclean: bool = False
    """unclean.leader.election.enable"""
    min_isr: int = 1
    """min.insync.replicas"""
    eligible_leader_replicas: bool = False
    """Feature eligible.leader.replicas.version (KIP-966)."""

    @property
    def election(self) -> Election:
        return Election.UNCLEAN if self.unclean else Election.ONLINE


class Defaults(NamedTuple):
    """The controller's own configuration, for topics that do not set these properties."""

    unclean: bool = False
    """unclean.leader.election.enable"""
    min_isr: int = 1
    """min.insync.replicas"""


class Target(NamedTuple):
    """What a partition is to become; None: as it is."""

    isr: Sequence[int] | None = None
    replicas: Sequence[int] | None = None
    adding: Sequence[int] | None = None
    removing: Sequence[int] | None = None
    recovery_state: int | None = None
    lost_tail: Sequence[int] = ()
    """Replicas that came back from an unclean stop: they may lack what they once had."""


class _Change:
    """The change while it is worked out."""

    def __init__(self, before: PartitionImage, target: Target, rules: Rules, is_acceptable: IsAcceptable) -> None:
        self.before = before
        self.is_acceptable = is_acceptable
        self.isr = list(before.isr if target.isr is None else target.isr)
        self.replicas = list(before.replicas if target.replicas is None else target.replicas)
        self.adding = list(before.adding_replicas if target.adding is None else target.adding)
        self.removing = list(before.removing_replicas if target.removing is None else target.removing)
        self.recovery_state = before.leader_recovery_state if target.recovery_state is None else target.recovery_state
        # Apache Kafka may have left an ELR behind, which counts for as long as it is there.
        self.with_elr = rules.eligible_leader_replicas or bool(before.elr or before.last_known_elr)
        self.complete_reassignment()
        self.min_isr = min(rules.min_isr, len(self.replicas))
        self.elr = self.eligible(target.lost_tail) if self.with_elr else []

    def complete_reassignment(self) -> None:
        """Drop the replicas to remove once all the others are in sync."""
        if not (self.adding or self.removing):
            return
        replicas = [id for id in self.replicas if id not in self.removing]
        isr = [id for id in self.isr if id not in self.removing]
        if isr and replicas and set(self.adding) <= set(isr):
            self.isr, self.replicas, self.adding, self.removing = isr, replicas, [], []

    def eligible(self, lost_tail: Sequence[int]) -> list[int]:
        """Below min ISR nothing more is committed, so a replica that leaves the ISR then has every committed record."""
        if len(self.isr) >= self.min_isr:
            return []
        known = dict.fromkeys((*self.before.elr, *self.before.isr))
        return [id for id in known if id not in self.isr and id not in lost_tail and id in self.replicas]

    def can_lead(self, id: int) -> bool:
        return (id in self.isr or (not self.isr and id in self.elr)) and self.is_acceptable(id)

    def elect(self, election: Election) -> tuple[int, bool]:
        """The leader, and whether it may lack records that were committed."""
        order = [self.before.leader, *self.replicas]
        if election is Election.PREFERRED:
            order = [self.replicas[0], *order]
        clean = next((id for id in order if id != NO_LEADER and self.can_lead(id)), NO_LEADER)
        if clean != NO_LEADER:
            return clean, False
        last = [id for id in self.before.last_known_elr if id in self.replicas and self.is_acceptable(id)]
        if last and self.with_elr and not self.isr and not self.elr and len(self.before.last_known_elr) == 1:
            # The last leader: no other replica will ever have more than it has.
            return last[0], True
        if election is Election.UNCLEAN:
            return next((id for id in self.replicas if self.is_acceptable(id)), NO_LEADER), True
        return NO_LEADER, False

    def last_known(self, leads: int) -> list[int]:
        """The last leader of a partition without one: it is elected when no eligible replica is left."""
        if leads != NO_LEADER:
            return []
        if not self.isr and self.before.leader in self.replicas:
            return [self.before.leader]
        last = list(self.before.last_known_elr)
        if not (self.isr or self.elr or last):
            # It lost its leader before the last one was recorded: the replica that was eligible last would have led.
            last = [*self.before.isr, *self.before.elr][-1:]
        return [id for id in last if id in self.replicas]


def change_partition(
    topic_id: UUID,
    index: int,
    before: PartitionImage,
    target: Target,
    rules: Rules,
    is_acceptable: IsAcceptable,
    *,
    election: Election | None = None,
    directory_of: Callable[[int], UUID] = lambda id: DIRECTORY_UNASSIGNED,
) -> PartitionChangeRecord | None:
    """The record that takes a partition from `before` to `target`; None when nothing changes.

    `is_acceptable` says which brokers may lead, `directory_of` where a new replica goes; `election` overrides what the
    topic's rules allow.
    """
    change = _Change(before, target, rules, is_acceptable)
    record = PartitionChangeRecord(partition_id=index, topic_id=topic_id)
    leader, unclean = change.elect(election or rules.election)
    if leader == NO_LEADER:
        unclean = False
    if leader != before.leader:
        record.leader = leader
        if unclean:
            change.isr, change.elr = [leader], []
            change.recovery_state = RECOVERING
        elif leader in change.elr:
            change.isr = [leader]
            # A leader that suffices alone (min.insync.replicas was lowered meanwhile) commits without the others.
            change.elr = [id for id in change.elr if id != leader] if change.min_isr > 1 else []
    elif not set(before.replicas) <= set(change.replicas):
        # A replica goes: a new leader epoch distinguishes it from a late one (as Kafka does).
        record.leader = leader
    if not change.isr and before.isr and not change.with_elr:
        # The last member stays; where its replica goes (a reassignment is cancelled), the first of those that remain.
        change.isr = [id for id in before.isr if id in change.replicas] or change.replicas[:1]
    _write(record, before, change, directory_of)
    return record if _says_something(record) else None


def _write(
    record: PartitionChangeRecord, before: PartitionImage, change: _Change, directory_of: Callable[[int], UUID]
) -> None:
    """Put every difference into the record."""
    if tuple(change.isr) != before.isr:
        record.isr = change.isr
    if tuple(change.elr) != before.elr:
        record.eligible_leader_replicas = change.elr
    if change.with_elr:
        last = change.last_known(leads=before.leader if record.leader == LEADER_UNCHANGED else record.leader)
        if tuple(last) != before.last_known_elr:
            record.last_known_elr = last
    if tuple(change.replicas) != before.replicas:
        known = dict(zip(before.replicas, before.directories, strict=True))
        record.replicas = change.replicas
        record.directories = [known[id] if id in known else directory_of(id) for id in change.replicas]
    if tuple(change.removing) != before.removing_replicas:
        record.removing_replicas = change.removing
    if tuple(change.adding) != before.adding_replicas:
        record.adding_replicas = change.adding
    if change.recovery_state != before.leader_recovery_state:
        record.leader_recovery_state = change.recovery_state


def _says_something(record: PartitionChangeRecord) -> bool:
    said = (
        record.isr,
        record.replicas,
        record.adding_replicas,
        record.removing_replicas,
        record.eligible_leader_replicas,
        record.last_known_elr,
        record.directories,
    )
    return (
        record.leader != LEADER_UNCHANGED
        or record.leader_recovery_state >= 0
        or any(value is not None for value in said)
    )
