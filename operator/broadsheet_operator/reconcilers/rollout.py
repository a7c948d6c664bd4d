"""Which broker may be restarted now, and why the next one has to wait. Pure.

One broker at a time, the active controller last. A broker is restarted only while all others run and no partition that
it keeps a replica of would fall below its min.insync.replicas; a partition whose replication factor is no larger than
that could never be restarted by this rule, so it is the exception, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodView:
    """A broker's pod."""

    id: int
    name: str
    uid: str
    ready: bool
    outdated: str | None
    """Why it must restart (a reason as Strimzi has it), or None."""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a rolling change does next."""

    restart: PodView | None
    words: str
    """What is going on or waited for; empty when nothing is to be done."""


def next_step(
    pods: Sequence[PodView],
    replicas: int,
    controller: int | None,
    unsafe: Mapping[int, str] | None,
) -> Step:
    """`unsafe`: for each broker id that must not stop now, the partition that forbids it; None when nobody could say.

    A pod that is not ready and outdated is restarted whatever the others do: it serves nobody, and the change may be
    what heals it.
    """
    outdated = [pod for pod in pods if pod.outdated and not pod.deleting]
    if not outdated:
        return Step(None, "")
    names = f"{len(outdated)} of {replicas} brokers to restart" if len(outdated) > 1 else "1 broker to restart"
    stuck = next((pod for pod in outdated if not pod.ready), None)
    if stuck is not None:
        return Step(stuck, f"restarting broker {stuck.id}, which is not ready; {names}")
    absent = sorted(set(range(replicas)) - {pod.id for pod in pods if pod.ready and not pod.deleting})
    if absent:
        return Step(None, f"waiting until broker {', '.join(map(str, absent))} is ready; {names}")
    if unsafe is None:
        return Step(None, f"waiting until the cluster says which partitions are in sync; {names}")
    ordered = sorted(outdated, key=lambda pod: (pod.id == controller, pod.id))
    for pod in ordered:
        if pod.id not in unsafe:
            return Step(pod, f"restarting broker {pod.id}; {names}")
    first = ordered[0]
    return Step(None, f"broker {first.id} waits: {unsafe[first.id]}; {names}")
