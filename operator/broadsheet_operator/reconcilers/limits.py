"""How fast the replicas of a Cluster move when its brokers change: the limit of a drain or a rebalance. Pure.

The limit is Kafka's own (KIP-73): each topic names the replicas that are copied, each broker has a rate. Kafka does not
know who set them, so an annotation of the StatefulSet remembers the topics that we limit, and the rate, before anything
is done. What a Topic limits because its own replication factor changes is the Topic's; both may name replicas of the
same topic at a time, and each leaves alone what the other may need: a topic is let go when nothing of it moves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broadsheet_operator.api.quantities import format_rate
from broadsheet_operator.reconcilers.spreading import Moves, Placed
from broadsheet_operator.reconcilers.topic_actions import Throttle, Unthrottle

LIMITED = "broadsheet.io/limited"
"""Annotation of the StatefulSet: the rate, and the topics whose replicas are limited because brokers change."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was limited."""

    rate: int = 0
    """Bytes per second per broker; 0: nothing is limited."""
    topics: frozenset[str] = frozenset()

    def text(self) -> str | None:
        """As the annotation has it; None: no annotation."""
        return json.dumps({"rate": self.rate, "topics": sorted(self.topics)}) if self.topics else None


NOTHING = Limits()


def limits_of(annotations: Mapping[str, str] | None) -> Limits:
    """The limits in the annotation. An unreadable value counts as no limit; it was not written by the operator."""
    try:
        told = json.loads((annotations or {}).get(LIMITED, ""))
        return Limits(int(told["rate"]), frozenset(map(str, told["topics"])))
    except (ValueError, KeyError, TypeError):
        return NOTHING


@dataclass(frozen=True, slots=True)
class LimitStep:
    """What is to be done about the limit now, in this order: remember, limit, (move), let go, remember again."""

    before: Limits = NOTHING
    """To be remembered before anything is done."""
    throttle: tuple[Throttle, ...] = ()
    """To be set before replicas begin to move."""
    release: tuple[Unthrottle, ...] = ()
    after: Limits = NOTHING
    """To be remembered when all is done."""
    words: str = ""
    """For the status; empty when nothing is limited."""


def next_step(placement: Sequence[Placed], moves: Moves, known: Limits, rate: int | None) -> LimitStep:
    """The limit for what moves and for what is about to (`moves`). `rate`: bytes per second per broker; None: none."""
    partitions: dict[str, list[Placed]] = {}
    for p in placement:
        partitions.setdefault(p.name.topic, []).append(p)
    ours = known.topics & partitions.keys()
    if rate is None:
        return LimitStep(known, release=_release(ours))
    begun = {name.topic for name in moves if copies(partitions.get(name.topic, ()), moves)}
    topics = {t for t in ours if any(p.moving for p in partitions[t])} | begun
    to_limit = topics if rate != known.rate else begun
    throttle = (limit_of(t, copies(partitions[t], moves), rate) for t in sorted(to_limit))
    return LimitStep(
        # With the rate that is in force: an interrupted round then sets the new one everywhere.
        before=Limits(known.rate, known.topics | topics) if to_limit else known,
        throttle=tuple(t for t in throttle if t is not None),
        release=_release(ours - topics),
        after=Limits(rate, frozenset(topics)) if topics else NOTHING,
        words=f"at most {format_rate(rate)}/s per broker" if topics else "",
    )


@dataclass(frozen=True, slots=True)
class Copy:
    """A partition that gets replicas: from where, and where."""

    partition: int
    sources: frozenset[int]
    targets: frozenset[int]


def copies(partitions: Iterable[Placed], moves: Moves) -> list[Copy]:
    """What will be copied of these partitions once the moves have begun."""
    found = []
    for p in partitions:
        settled = [r for r in p.replicas if r not in p.adding]
        targets = frozenset(moves.get(p.name, p.replicas)) - frozenset(settled)
        if targets:
            found.append(Copy(p.name.partition, frozenset(settled) & frozenset(p.isr), targets))
    return found


def limit_of(topic: str, copied: Sequence[Copy], rate: int) -> Throttle | None:
    """The limit of a topic; None when nothing of it is copied."""
    if not copied:
        return None
    sources = sorted((c.partition, r) for c in copied for r in c.sources)
    targets = sorted((c.partition, r) for c in copied for r in c.targets)
    return Throttle(topic, tuple(sources), tuple(targets), rate)


def _release(topics: Iterable[str]) -> tuple[Unthrottle, ...]:
    return tuple(Unthrottle(topic) for topic in sorted(topics))
