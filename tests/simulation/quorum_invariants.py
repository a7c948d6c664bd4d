"""What Raft promises of the metadata quorum, looked at after every event from inside every node.

Election safety: one leader per epoch, one vote per node and epoch. Leader completeness: who is elected has everything
that is committed. Log matching: logs with the same batch in the same epoch are the same up to it. State machine safety:
what is committed anywhere is the same everywhere and for ever. (The figures 3 and 8 of the Raft paper; KIP-595.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster, Node

Life = tuple[int, int]
"""A node and how often it had been started."""
_Batch = tuple[int, int]
"""Last offset and CRC."""


class InvariantBroken(AssertionError):
    """Something that must never be, even for a moment, no client needs to have noticed."""


class QuorumInvariants:
    """Remembers what it saw of the metadata logs, and compares. It costs little where nothing has changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._seen: dict[int, tuple[Any, ...]] = {}
        self._leaders: dict[int, int] = {}
        """Who led each epoch."""
        self._established: dict[int, int] = {}
        """In which of its lives the leader of an epoch had something committed: who starts again leads it no more."""
        self._epochs: dict[int, int] = {}
        """The newest epoch that each node took part in, across its lives."""
        self._votes: dict[tuple[int, int], int] = {}
        """Who got a node's vote, by node and epoch."""
        self._marks: dict[Life, int] = {}
        """The high watermark of each node."""
        self._highest_mark = 0
        self._committed: dict[int, tuple[int, int, int]] = {}
        """Last offset, epoch and CRC of each committed batch, by its base offset."""
        self._compared: dict[Life, int] = {}
        """How far a log has been compared with what is committed."""
        self._written: dict[tuple[int, int], _Batch] = {}
        """Every batch there ever was, by base offset and epoch."""
        self._before: dict[tuple[int, int], tuple[int, int]] = {}
        """Base offset and epoch of the batch before each."""
        self._matched: dict[Life, tuple[int, tuple[int, int] | None, int]] = {}
        """How far a log has been compared with those: offset, last batch, how often the log had been cut."""

    def look(self, node: Node) -> None:
        broker = node.broker
        inside = broker.inspect().node if broker is not None else None
        if inside is None:
            return
        node_raft = inside.raft
        raft, log = getattr(node_raft, "_raft", None), getattr(node_raft.storage, "log", None)
        if raft is None or log is None:  # it is still loading
            return
        leads = raft.leader is not None
        state = (node.lives, raft.election, leads, raft.high_watermark, raft.flushed_end)
        if self._seen.get(node.id) == state:
            return
        self._seen[node.id] = state
        if not raft.epoch or node_raft.failure is not None:
            return  # it has not read its quorum-state yet; or could not write it, and is out of the quorum
        own = (node.id, node.lives)
        self._look_at_election(node, raft, leads)
        if log.tail.pending:  # reading would write it: later
            del self._seen[node.id]
            return
        self._match(node, node_raft, own, raft.flushed_end)
        mark = raft.high_watermark
        if mark >= 0:  # else not known: it no longer leads, or not yet
            self._look_at_mark(node, node_raft, own, mark)

    def _look_at_election(self, node: Node, raft: Any, leads: bool) -> None:
        epoch = raft.epoch
        known = self._epochs.get(node.id, -1)
        if epoch < known:
            raise InvariantBroken(f"{node.name} went back from epoch {known} to {epoch}")
        self._epochs[node.id] = epoch
        if raft.election.voted is not None:
            voted = raft.election.voted.id
            first_vote = self._votes.setdefault((node.id, epoch), voted)
            if first_vote != voted:
                raise InvariantBroken(f"{node.name} voted twice in epoch {epoch}: for {first_vote} and for {voted}")
        if not leads:
            return
        first = epoch not in self._leaders
        if self._leaders.setdefault(epoch, node.id) != node.id:
            raise InvariantBroken(f"epoch {epoch} has two leaders: {self._leaders[epoch]} and {node.id}")
        if raft.high_watermark >= 0 and self._established.setdefault(epoch, node.lives) != node.lives:
            raise InvariantBroken(f"{node.name} leads epoch {epoch} again, which it led before its restart")
        if first and raft.log.end_offset < self._highest_mark:
            raise InvariantBroken(
                f"{node.name} leads epoch {epoch} with a metadata log that ends at {raft.log.end_offset}, and "
                f"{self._highest_mark} was committed"
            )

    def _look_at_mark(self, node: Node, raft: Any, own: Life, mark: int) -> None:
        if mark < self._marks.get(own, -1):
            raise InvariantBroken(f"the high watermark of {node.name} went back from {self._marks[own]} to {mark}")
        self._marks[own] = mark
        self._highest_mark = max(self._highest_mark, mark)
        if mark > raft.storage.end_offset:
            raise InvariantBroken(f"{node.name} has {mark} committed, and its log ends at {raft.storage.end_offset}")
        begin = max(self._compared.get(own, 0), raft.storage.log.log_start_offset)
        if begin >= mark:
            return
        for header, _ in raft.storage.read(begin):
            if header.last_offset >= mark:
                break
            found = (header.last_offset, header.partition_leader_epoch, header.crc)
            known = self._committed.setdefault(header.base_offset, found)
            if known != found:
                raise InvariantBroken(
                    f"{node.name} has committed {found} (last offset, epoch, CRC) at {header.base_offset} of the "
                    f"metadata log, and {known} was committed there before"
                )
            self._compared[own] = header.last_offset + 1

    def _match(self, node: Node, raft: Any, own: Life, end: int) -> None:
        """Compare what has become durable since the last look with what other logs have there."""
        storage = raft.storage
        begin, before, cuts = self._matched.get(own, (0, None, 0))
        if cuts != raft.flushing.replacements:
            begin, before = 0, None  # rare
        if begin < storage.log.log_start_offset:
            begin, before = storage.log.log_start_offset, None
        for header, _ in storage.read(begin, end):
            batch = (header.base_offset, header.partition_leader_epoch)
            found = (header.last_offset, header.crc)
            if self._written.setdefault(batch, found) != found:
                raise InvariantBroken(f"{node.name} has {found} at {batch} (offset, epoch), not {self._written[batch]}")
            if before is not None and self._before.setdefault(batch, before) != before:
                raise InvariantBroken(f"{node.name} has {before} before {batch}, and others {self._before[batch]}")
            before, begin = batch, header.last_offset + 1
        self._matched[own] = (begin, before, raft.flushing.replacements)
