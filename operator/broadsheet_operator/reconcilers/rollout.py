"""Which broker may be restarted now, and why the next one has to wait. Pure.

One broker at a time, the active controller last. A broker is restarted only while all others run, those that were
restarted before it are in sync again, and no partition that it keeps a replica of would fall below its
min.insync.replicas. A partition whose replication factor is no larger than that could never be restarted by this rule:
it is the exception, and waits only until all its other replicas are in sync; one that has no other replica is named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from broadsheet_operator.reconcilers.observed import ClusterHealth


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
    why: str = ""
    """Which difference the restart is for."""
    fenced: bool = False
    """The cluster says that it takes no requests, whatever Kubernetes says."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a rolling change does next."""

    restart: PodView | None
    words: str
    """What is going on or waited for; empty when nothing is to be done."""
    blocked: bool = False
    """Something that may last forbids the next restart: worth an event, other than the start of a broker."""


def unsafe_to_stop(health: ClusterHealth) -> dict[int, str]:
    """For each broker that must not stop now, the first partition that forbids it.

    A partition all of whose replicas are in sync forbids nothing: what is left is at least its min.insync.replicas, or
    its replication factor is no larger than that, which is the exception.
    """
    result: dict[int, str] = {}
    for p in health.lacking:
        needed = max(1, min(p.min_isr, len(p.replicas) - 1))
        for replica in p.replicas:
            left = [r for r in p.isr if r != replica]
            if len(p.replicas) > 1 and replica in p.isr and len(left) < needed:
                words = "would fall below min ISR" if left else "would have no replica in sync"
                result.setdefault(replica, f"{p.name} {words}")
    return result


def behind(health: ClusterHealth) -> dict[int, str]:
    """For each broker that is missing in an ISR, the first such partition."""
    result: dict[int, str] = {}
    for p in health.lacking:
        for replica in p.replicas:
            if replica not in p.isr:
                result.setdefault(replica, str(p.name))
    return result


def next_step(
    pods: Sequence[PodView],
    replicas: int,
    controller: int | None,
    unsafe: Mapping[int, str] | None,
    lagging: Mapping[int, str] | None = None,
    single: Mapping[int, str] | None = None,
    idle: Collection[int] = (),
    *,
    rolling: bool = False,
) -> Step:
    """`unsafe`: for each broker id that must not stop now, what forbids it; None when that is not known.

    `lagging`: for each broker that is not in sync everywhere, a partition where it is not: one that was restarted
    has to be back before the next one goes. `single`: for each broker a partition without another replica. `idle`:
    brokers without replicas and without a vote: one of them without a node holds nothing up.

    `rolling`: the round before was in a rolling change. It is over when the broker that was restarted last is back.

    A pod that is not ready and outdated is restarted whatever the others do: it serves no client, and the change may be
    what heals it.
    """
    outdated = [pod for pod in pods if pod.outdated and not pod.deleting]
    serving = {pod.id for pod in pods if pod.ready and not pod.fenced and not pod.deleting}
    absent = sorted(set(range(replicas)) - serving - set(idle))
    if not outdated:
        return _last_one(absent, lagging) if rolling else Step(None, "")
    names = f"{len(outdated)} of {replicas} brokers to restart" if len(outdated) > 1 else "1 broker to restart"
    stuck = next((pod for pod in outdated if not pod.ready), None)
    if stuck is not None:
        return Step(stuck, f"restarting broker {stuck.id}, which is not ready{_why(stuck)}; {names}")
    if absent:
        return Step(None, f"waiting until broker {', '.join(map(str, absent))} is ready; {names}")
    if unsafe is None:
        return Step(None, f"waiting until the cluster says which partitions are in sync; {names}")
    for pod in pods:
        if not pod.outdated and lagging and pod.id in lagging:
            return Step(None, f"broker {pod.id} is not back in the ISR of {lagging[pod.id]} yet; {names}", blocked=True)
    ordered = sorted(outdated, key=lambda pod: (pod.id == controller, pod.id))
    for pod in ordered:
        if pod.id not in unsafe:
            alone = f" ({single[pod.id]} has no other replica)" if single and pod.id in single else ""
            return Step(pod, f"restarting broker {pod.id}{alone}{_why(pod)}; {names}")
    first = ordered[0]
    return Step(None, f"broker {first.id} waits: {unsafe[first.id]}; {names}", blocked=True)


def _why(pod: PodView) -> str:
    return f": {pod.why}" if pod.why else ""


def _last_one(absent: Sequence[int], lagging: Mapping[int, str] | None) -> Step:
    """Every pod is as it should be; the broker that was restarted last may still be on its way."""
    if absent:
        return Step(None, f"waiting until broker {', '.join(map(str, absent))} is ready; no other is left to restart")
    for broker, partition in sorted((lagging or {}).items()):
        return Step(None, f"broker {broker} is not back in the ISR of {partition} yet; no other is left to restart")
    return Step(None, "")


def held(step: Step, words: str) -> Step:
    """The step outside of the maintenance windows: only a pod that serves no client is restarted."""
    if step.restart is None or not step.restart.ready:
        return step
    return Step(None, f"broker {step.restart.id} {words}", blocked=True)


def evictable(pods: Sequence[PodView], replicas: int, unsafe: Mapping[int, str] | None, most: int) -> int:
    """How many pods Kubernetes may evict at once, for a drain of a node: none while any stop would hurt.

    So the next node is drained only when the broker of the one before is back in every ISR.
    """
    if replicas == 1:
        return most
    whole = sum(pod.ready and not pod.fenced and not pod.deleting for pod in pods) >= replicas
    return most if whole and unsafe is not None and not unsafe else 0
