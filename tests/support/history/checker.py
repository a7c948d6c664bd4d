"""Finds what a Kafka cluster must never do, in a history of what its clients did and saw.

The anomalies are those that Jepsen looked for in Kafka and Redpanda. Each function begins with the anomaly in words.
None is sensitive to what is normal: gaps between offsets, write cycles (G0), records whose send had no known outcome
and that turn out to be written or not.

    for anomaly in check(history):
        print(anomaly)

Cost: sorting at most; 100,000 operations take about a second.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from tests.support.history.operations import (
    OUT_OF_RANGE,
    UNKNOWN_OFFSET,
    Commit,
    Final,
    History,
    Outcome,
    Partition,
    Poll,
    Seek,
    Send,
)

MOST_PER_KIND = 5
"""A broken cluster breaks everywhere: so many of one kind are told, and how many more there are."""


class Anomaly(NamedTuple):
    kind: str
    partition: Partition | None
    text: str

    def __str__(self) -> str:
        where = f" in {self.partition[0]}-{self.partition[1]}" if self.partition else ""
        return f"{self.kind}{where}: {self.text}"


def check(history: History) -> list[Anomaly]:
    """Every anomaly in the history, at most `MOST_PER_KIND` of each kind."""
    index = Index(history)
    found: list[Anomaly] = []
    for search in SEARCHES:
        anomalies = search(history, index)
        few = list(islice(anomalies, MOST_PER_KIND))
        more = sum(1 for _ in anomalies)
        if more:
            few.append(Anomaly(few[-1].kind, None, f"... and {more} more"))
        found += few
    return found


class Index:
    """The history by what the searches ask for."""

    def __init__(self, history: History) -> None:
        self.sends: dict[str, Send] = {send.value: send for send in history.sends}
        """By value."""
        self.losses = sorted(loss.time for loss in history.losses)
        self.final: dict[Partition, dict[str, int]] = {}
        """Offset by value, of the partitions that were read at the end."""
        self.starts: dict[Partition, int] = {}
        self.survived: dict[Partition, list[int]] = {}
        """For each loss, the highest offset of a record acknowledged before it that is still there; -1 for none."""
        for final in history.finals:
            self.final[final.partition] = {value: offset for offset, value in final.records}
            self.starts[final.partition] = final.start
            self.survived[final.partition] = self._survivors(final)
        self.transactions = {item.name: item.outcome for item in history.transactions}
        self.offsets = {final.partition: [offset for offset, _ in final.records] for final in history.finals}
        """Offsets at which there certainly is a record at the end, ascending."""

    def _survivors(self, final: Final) -> list[int]:
        highest = [-1] * len(self.losses)
        for offset, value in final.records:
            send = self.sends.get(value)
            if send is not None and send.outcome is Outcome.OK:
                era = self.era(send.completed)
                if era < len(highest):
                    highest[era] = max(highest[era], offset)
        return highest

    def era(self, time: float) -> int:
        """How many losses there had been before."""
        return bisect_left(self.losses, time)

    def may_be_gone(self, send: Send) -> bool:
        """A loss took it, as far as that is allowed: nothing acknowledged before the same loss survived above it."""
        first, last = self.era(send.invoked), self.era(send.completed)
        survived = self.survived.get(send.partition, [])[first : last + 1]
        return bool(survived) and (send.offset == UNKNOWN_OFFSET or any(send.offset > highest for highest in survived))


def lost_writes(history: History, index: Index) -> Iterator[Anomaly]:
    """Lost write: a record was acknowledged with acks that promise durability, and it is not in the log at the end.

    Not lost is what retention deleted (below the log's start), and what a fault beyond the promise (`Loss`) may have
    taken: a suffix of what had been acknowledged before it.
    """
    for send in history.sends:
        if send.outcome is not Outcome.OK or send.acks not in history.durable_acks:
            continue
        if index.transactions.get(send.transaction or "", Outcome.OK) is not Outcome.OK:
            continue
        final = index.final.get(send.partition)
        if final is None or send.value in final or send.offset < index.starts[send.partition]:
            continue  # an unknown offset is below every start but 0
        if index.may_be_gone(send):
            continue
        yield Anomaly(
            "lost write",
            send.partition,
            f"{send.producer} sent {send.value!r} at {send.invoked:.6f} s with acks={send.acks}; acknowledged at "
            f"{send.completed:.6f} s with offset {send.offset}; it is not in the log",
        )


def aborted_reads(history: History, index: Index) -> Iterator[Anomaly]:
    """Aborted read: a consumer was given a record whose send was refused for good, or whose transaction was aborted,
    or that nobody has sent."""
    for read in history.reads:
        if type(read) is Poll:
            reason = _must_not_be_read(index.sends.get(read.value), index)
            if reason:
                yield Anomaly(
                    "aborted read", read.partition, f"{read.consumer} read {read.value!r} at {read.offset}: {reason}"
                )
    for final in history.finals:
        for offset, value in final.records:
            reason = _must_not_be_read(index.sends.get(value), index)
            if reason:
                yield Anomaly("aborted read", final.partition, f"{value!r} is at {offset} at the end: {reason}")


def _must_not_be_read(send: Send | None, index: Index) -> str:
    if send is None:
        return "nobody sent it"
    if send.outcome is Outcome.FAILED:
        return f"{send.producer}'s send was refused"
    if send.transaction is not None and index.transactions.get(send.transaction) is Outcome.FAILED:
        return f"transaction {send.transaction} was aborted"
    return ""


def inconsistent_offsets(history: History, index: Index) -> Iterator[Anomaly]:
    """Inconsistent offsets: one offset of a partition was seen with two values.

    Seen by a consumer, in the log at the end, or named in a durable acknowledgement. After a `Loss` offsets may be
    given again, so only what was seen between the same losses is compared.
    """
    seen: dict[tuple[Partition, int, int], tuple[str, str]] = {}
    for partition, offset, value, who, began, ended in _sightings(history):
        era = index.era(began)
        if era != index.era(ended):
            continue
        before = seen.setdefault((partition, offset, era), (value, who))
        if before[0] != value:
            yield Anomaly(
                "inconsistent offsets",
                partition,
                f"offset {offset} is {before[0]!r} to {before[1]} and {value!r} to {who}",
            )


def _sightings(history: History) -> Iterator[tuple[Partition, int, str, str, float, float]]:
    end = float("inf")
    for send in history.sends:
        if send.outcome is Outcome.OK and send.offset != UNKNOWN_OFFSET and send.acks in history.durable_acks:
            yield send.partition, send.offset, send.value, send.producer, send.invoked, send.completed
    for read in history.reads:
        if type(read) is Poll:
            asked = read.time if read.asked is None else read.asked
            yield read.partition, read.offset, read.value, read.consumer, asked, read.time
    for final in history.finals:
        for offset, value in final.records:
            yield final.partition, offset, value, "the log at the end", end, end


def duplicates(history: History, index: Index) -> Iterator[Anomaly]:
    """Duplicate: a record of an idempotent producer is at two offsets.

    Producers without idempotence may retry what was written: theirs are normal.
    """
    seen: dict[tuple[str, int], int] = {}
    told: set[str] = set()
    for partition, offset, value, who, began, ended in _sightings(history):
        send, era = index.sends.get(value), index.era(ended)
        if send is None or not send.ordered or value in told or era != index.era(began):
            continue
        before = seen.setdefault((value, era), offset)
        if before != offset:
            told.add(value)
            yield Anomaly("duplicate", partition, f"{value!r} is at {before} and, to {who}, at {offset}")


def poll_skips(history: History, index: Index) -> Iterator[Anomaly]:
    """Poll skip: a consumer was given two records one after the other, without a seek between, and there is a record
    between their offsets.

    Offsets at which no record is known (markers of transactions, compacted records) are no skip. The first record after
    a seek must not skip either, counted from the offset sought.
    """
    last: dict[tuple[str, Partition], tuple[int, float]] = {}
    for read in history.reads:
        key = (read.consumer, read.partition)
        if type(read) is Seek:
            last[key] = read.offset - 1, read.time
            continue
        before, time = last.get(key, (None, 0.0))
        last[key] = read.offset, read.time
        if before is None or read.offset <= before + 1 or index.era(time) != len(index.losses):
            continue
        offsets = index.offsets.get(read.partition, ())
        first = bisect_right(offsets, before)
        if first < bisect_left(offsets, read.offset):
            yield Anomaly(
                "poll skip",
                read.partition,
                f"{read.consumer} went from {before} to {read.offset} at {read.time:.6f} s, past {offsets[first]}",
            )


def nonmonotonic_polls(history: History, index: Index) -> Iterator[Anomaly]:
    """Non-monotonic poll: a consumer was given a record at or before the offset of the one before, without a seek."""
    last: dict[tuple[str, Partition], int] = {}
    for read in history.reads:
        key = (read.consumer, read.partition)
        if type(read) is Seek:
            last[key] = read.offset - 1
            continue
        before = last.get(key, -1)
        last[key] = read.offset
        if read.offset <= before:
            yield Anomaly(
                "non-monotonic poll",
                read.partition,
                f"{read.consumer} was given {read.offset} after {before} at {read.time:.6f} s",
            )


def nonmonotonic_sends(history: History, index: Index) -> Iterator[Anomaly]:
    """Non-monotonic send: an idempotent producer sent two records to a partition, and they are in the log the other way
    round. Producers without idempotence may overtake themselves by retrying."""
    for final in history.finals:
        last: dict[str, tuple[int, int]] = {}
        for offset, value in final.records:
            send = index.sends.get(value)
            if send is None or not send.ordered:
                continue
            number, at = last.get(send.producer, (-1, -1))
            if send.number < number:
                yield Anomaly(
                    "non-monotonic send",
                    final.partition,
                    f"{send.producer}'s number {send.number} is at {offset}, after number {number} at {at}",
                )
            last[send.producer] = send.number, offset


def unseen_at_the_end(history: History, index: Index) -> Iterator[Anomaly]:
    """Unseen at the end: an acknowledged record is in the log, a consumer of the partition began at or before it and
    had all the time to read to the end, and no consumer was ever given it.

    Retention may take records before a slow consumer comes to them: then its place is out of range, and it goes on
    behind them. After a `Loss` a consumer may stand above the end, and the log grow past it unseen: it counts from its
    next seek.
    """
    seen: dict[Partition, set[str]] = defaultdict(set)
    begins: dict[Partition, int] = {}
    deleted: dict[Partition, int] = {}
    for read in history.reads:
        if type(read) is Poll:
            seen[read.partition].add(read.value)
        elif read.reason == OUT_OF_RANGE:
            deleted[read.partition] = max(read.offset, deleted.get(read.partition, 0))
        if index.era(read.time) == len(index.losses) and (type(read) is Seek or not index.losses):
            begins[read.partition] = min(begins.get(read.partition, read.offset), read.offset)
    for final in history.finals:
        begin = begins.get(final.partition)
        if begin is None:
            continue
        for offset, value in final.records:
            if offset < max(begin, deleted.get(final.partition, 0)) or value in seen[final.partition]:
                continue
            send = index.sends.get(value)
            if send is not None and send.outcome is Outcome.OK:
                yield Anomaly("unseen at the end", final.partition, f"{value!r} at {offset} was never given to anybody")


def circular_information_flow(history: History, index: Index) -> Iterator[Anomaly]:
    """Circular information flow (G1c): committed transactions that each read what the next one wrote, in a circle.

    Only reads make edges. Cycles of writes alone (G0) are normal: Kafka does not isolate writers from each other.
    """
    flows: dict[str, dict[str, None]] = {}
    for read in history.reads:
        if type(read) is Poll and read.transaction is not None:
            send = index.sends.get(read.value)
            if send is None or send.transaction is None or send.transaction == read.transaction:
                continue
            if Outcome.FAILED in (index.transactions.get(send.transaction), index.transactions.get(read.transaction)):
                continue
            flows.setdefault(send.transaction, {})[read.transaction] = None
            flows.setdefault(read.transaction, {})
    for circle in _circles(flows):
        yield Anomaly("circular information flow", None, " -> ".join((*circle, circle[0])))


def _circles(graph: Mapping[str, Mapping[str, None]]) -> Iterator[list[str]]:
    """One list of nodes for each strongly connected component of several nodes (Tarjan, without recursion)."""
    numbers: dict[str, int] = {}
    lows: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for root in graph:
        if root in numbers:
            continue
        numbers[root] = lows[root] = len(numbers)
        stack.append(root)
        on_stack.add(root)
        path = [(root, iter(graph[root]))]
        while path:
            node, targets = path[-1]
            target = next(targets, None)
            if target is not None:
                if target not in numbers:
                    numbers[target] = lows[target] = len(numbers)
                    stack.append(target)
                    on_stack.add(target)
                    path.append((target, iter(graph[target])))
                elif target in on_stack:
                    lows[node] = min(lows[node], numbers[target])
                continue
            path.pop()
            if path:
                lows[path[-1][0]] = min(lows[path[-1][0]], lows[node])
            if lows[node] == numbers[node]:
                start = stack.index(node)
                component, stack[start:] = stack[start:], []
                on_stack.difference_update(component)
                if len(component) > 1:
                    yield component


def lost_commits(history: History, index: Index) -> Iterator[Anomaly]:
    """Lost commit: a group asked for its place in a partition and was given one that an acknowledged commit had
    replaced before it asked, or one that nobody committed.

    Commits that overlap in time may take effect in any order; one without known outcome may take effect at any time
    after it began, or never.
    """
    commits: dict[tuple[str, Partition], list[Commit]] = defaultdict(list)
    for commit in history.commits:
        if commit.outcome is not Outcome.FAILED:
            commits[commit.group, commit.partition].append(commit)
    prepared = {key: _CommitIndex(found) for key, found in commits.items()}
    nothing = _CommitIndex([])
    for read in history.committed:
        if index.losses and index.losses[0] < read.completed:
            continue  # what had been committed before a loss may be gone
        found = prepared.get((read.group, read.partition), nothing)
        reason = found.refutes(read.offset, read.invoked, read.completed)
        if reason:
            yield Anomaly(
                "lost commit",
                read.partition,
                f"{read.group} was given {read.offset} at {read.completed:.6f} s: {reason}",
            )


class _CommitIndex:
    """The commits of one group to one partition."""

    def __init__(self, commits: list[Commit]) -> None:
        acknowledged = sorted((commit for commit in commits if commit.outcome is Outcome.OK), key=lambda c: c.completed)
        self._completed = [commit.completed for commit in acknowledged]
        self._newest: list[Commit] = []
        """The acknowledged commit that began last, among the first so many that ended."""
        for commit in acknowledged:
            best = self._newest[-1] if self._newest else commit
            self._newest.append(commit if commit.invoked >= best.invoked else best)
        self._by_offset: dict[int, tuple[float, float]] = {}
        """When the first commit of an offset began and the last one ended."""
        for commit in commits:
            ended = commit.completed if commit.outcome is Outcome.OK else float("inf")
            first, last = self._by_offset.get(commit.offset, (commit.invoked, ended))
            self._by_offset[commit.offset] = min(first, commit.invoked), max(last, ended)

    def refutes(self, offset: int, invoked: float, completed: float) -> str:
        """Why a read between these times cannot have been given this offset; empty when it can."""
        before = bisect_left(self._completed, invoked)
        newest = self._newest[before - 1] if before else None
        if offset == -1:
            return "" if newest is None else f"{newest.offset} had been committed at {newest.completed:.6f} s"
        first, last = self._by_offset.get(offset, (float("inf"), 0.0))
        if first > completed:
            return "nobody had committed it"
        if newest is not None and last < newest.invoked:
            return f"{newest.offset} had replaced it at {newest.completed:.6f} s"
        return ""


SEARCHES: tuple[Callable[[History, Index], Iterator[Anomaly]], ...] = (
    lost_writes,
    aborted_reads,
    inconsistent_offsets,
    duplicates,
    poll_skips,
    nonmonotonic_polls,
    nonmonotonic_sends,
    unseen_at_the_end,
    circular_information_flow,
    lost_commits,
)
