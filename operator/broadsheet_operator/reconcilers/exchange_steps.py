"""The steps by which a Cluster on Kubernetes gets another engine: all brokers stop, the other engine starts. Pure.

    asked for      `engine.type` is not what the volumes are run with; it is refused, or waits, or begins
    Stopping       the StatefulSet has no replicas, and the pods go; its template is still that of the old engine
    Starting       no pod is left: the StatefulSet has the other engine's template and all of its replicas again
    done           every broker takes requests, and every replica is in sync

There is never a cluster of both engines: no broker of one starts while a pod of the other is left. The brokers that do
not vote in the metadata quorum stop first, then all voters at once: each has its controlled shutdown granted while the
quorum is still there. A broker of Apache Kafka that stops when it is gone waits five minutes for that, and is killed.
Volumes are kept whatever `deletionPolicy` says: a StatefulSet that is scaled down deletes claims of a policy Delete.

Each step follows from the annotations (`exchange_state`) and from what is there, so an operator that restarts goes on
where it was. The operator never goes back by itself. Setting `engine.type` back does: a cluster that stops starts again
with the engine that it had, one that starts stops first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broadsheet_operator.api.engine import NO_EXCHANGE, Exchange
from broadsheet_operator.api.engine import Engine as DeclaredEngine
from broadsheet_operator.reconcilers.cluster import BrokerState
from broadsheet_operator.reconcilers.exchange_state import BROKERS, ENGINE, PHASE, SINCE, Phase, Situation, title
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView
from broadsheet_operator.reconcilers.quorum import wanted_voters

PATIENCE_SECONDS = 600.0
"""After this time, brokers that have not come back are no longer taken for what was asked for."""

CONTROLLER = "the StatefulSet's controller has seen that no broker is to run"
NO_VOLUMES = (
    "engine.type cannot change: these brokers have no volumes (brokers.storage.size), so all records would be gone "
    "when they stop; set engine.type back, or make a new Cluster"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the next step is decided from, beside the situation."""

    declared: DeclaredEngine
    has_volumes: bool
    formed: bool
    """The metadata quorum was seen."""
    states: Sequence[BrokerState]
    pods: Collection[int]
    """Ids of the brokers that have a pod, be it one that ends."""
    replicas: int
    """Of the StatefulSet now."""
    keeps_claims: bool
    """The StatefulSet keeps the claims of replicas that go."""
    view: object
    """ClusterView, a Failure, or None where nobody was asked."""
    health: object
    """ClusterHealth, a Failure, or None."""
    unknown: str | None
    """Why the wanted engine cannot take over what is stored; empty when it can; None where it is not known."""
    certain: bool = False
    """The wanted engine takes over whatever the other one may have stored: nobody needs to be asked."""
    window: tuple[bool, str]
    """Whether a maintenance window is open, and what is waited for."""
    busy: str = ""
    """What else is being done to the brokers: a drain, a change of voters, moves."""
    now: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now, and what is said."""

    situation: Situation = field(default_factory=Situation)
    words: str = ""
    """What is going on or waited for; empty when nothing is."""
    refusal: str = ""
    """Why there is no exchange, and what is allowed."""
    held: bool = False
    """It waits for a maintenance window."""
    patch: Mapping[str, Any] | None = None
    """A merge patch of the StatefulSet."""
    when_empty: bool = False
    """The patch may only be written while no broker has a pod."""
    event: tuple[str, str] | None = None
    """Reason and note of the event that goes with the patch."""

    @property
    def begins(self) -> bool:
        """All brokers are stopped with this."""
        return self.patch is not None and not self.when_empty and bool(self.patch.get("spec"))


def next_step(situation: Situation, facts: Facts) -> Step:
    """The next step of an exchange."""
    match situation.phase:
        case Phase.ASKED:
            return _asked(situation, facts)
        case Phase.STOPPING:
            return _stopping(situation, facts)
        case Phase.STARTING:
            return _starting(situation, facts)
    return Step(situation)


def paused(situation: Situation) -> Step:
    """What is said while the Cluster is paused: nothing is done."""
    if not situation.interrupts:
        return Step(situation)
    what = "the brokers are stopped" if situation.phase is Phase.STOPPING else "the brokers have not all come back"
    return Step(situation, f"{what} for an exchange of the engine, which goes on when spec.paused is false")


def _asked(situation: Situation, facts: Facts) -> Step:
    refusal = _refusal(situation, facts)
    if refusal:
        return Step(situation, refusal=refusal)
    change = f"{title(situation.wanted)} is to take over from {title(situation.runs)}"
    allowed, window = facts.window
    if not allowed:
        return Step(situation, f"{change}: {window}", held=True)
    waits = _not_whole(facts)
    if facts.unknown is None and not facts.certain and not waits:
        waits = "the cluster says what it has stored"
    if waits:
        return Step(situation, f"{change}: waits until {waits}")
    return _stop(situation, facts.now)


def _refusal(situation: Situation, facts: Facts) -> str:
    if not facts.has_volumes:
        return NO_VOLUMES
    if facts.declared.exchange is not Exchange.STOP:
        return NO_EXCHANGE
    if facts.unknown:
        return (
            f"{title(situation.wanted)} cannot take over from {title(situation.runs)}: {facts.unknown}; or set "
            f"engine.type back"
        )
    return ""


def _not_whole(facts: Facts) -> str:
    """What has to come first: what is in sync at the stop is what clients find after it.

    A broker that crashes again and again is not waited for: the other engine may be what it needs. Its replicas are not
    in the ISR, or nothing is served of them.
    """
    if facts.busy:
        return f"this is done: {facts.busy}"
    failing = {state.id for state in facts.states if state.state in _FAILING}
    away = [state.id for state in facts.states if state.state != "Running" and state.id not in failing]
    if away:
        return f"{_brokers(away)} {'runs' if len(away) == 1 else 'run'}"
    if not facts.formed:
        return "the metadata quorum has formed"
    if len(failing) == len(facts.states):
        return ""
    if not isinstance(facts.health, ClusterHealth) or not isinstance(facts.view, ClusterView):
        return "the cluster says which partitions are in sync"
    return _out_of_sync(facts.health, failing)


_FAILING = ("Failed", "Restarting")


def _out_of_sync(health: ClusterHealth, but: Collection[int] = ()) -> str:
    """The first partition that has no leader, or lacks a replica; those of the brokers `but` are left out."""
    if health.offline and not but:
        return f"{health.offline} {'partition has a leader' if health.offline == 1 else 'partitions have leaders'}"
    lacking = [(p.name, missing) for p in health.lacking if (missing := sorted({*p.replicas} - {*p.isr, *but}))]
    if not lacking:
        return ""
    name, missing = lacking[0]
    more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return f"{_brokers(missing)} {'is' if len(missing) == 1 else 'are'} in the ISR of {name}{more}"


def _stop(situation: Situation, now: datetime) -> Step:
    words = f"{title(situation.wanted)} takes over from {title(situation.runs)}: {_all(situation.brokers)} stop"
    if situation.brokers == 1:
        words += "s"
    annotations = {
        ENGINE: situation.runs,
        PHASE: str(Phase.STOPPING),
        BROKERS: str(situation.brokers),
        SINCE: _text(situation.since or now),
    }
    return Step(
        situation,
        words,
        patch={
            "metadata": {"annotations": annotations},
            "spec": _scaled(_that_stay(situation, range(situation.brokers))),
        },
        event=("EngineStopping", words),
    )


def _that_stay(situation: Situation, pods: Collection[int]) -> int:
    """How many brokers stay for now: the voters, until those that do not vote are gone."""
    voters = len(wanted_voters(situation.brokers))
    return voters if any(id >= voters for id in pods) else 0


def _scaled(replicas: int) -> Mapping[str, Any]:
    # In one write: the StatefulSet controller sees both, or none.
    kept = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    return {"replicas": replicas, "persistentVolumeClaimRetentionPolicy": kept}


def _stopping(situation: Situation, facts: Facts) -> Step:
    if not situation.differs:
        note = f"engine.type was set back: {title(situation.wanted)} starts again"
        return Step(situation, note, patch=_start(situation.wanted), event=("EngineStarting", note))
    change = f"{title(situation.wanted)} takes over from {title(situation.runs)}"
    staying = min(_that_stay(situation, facts.pods), facts.replicas)
    going = [id for id in sorted(facts.pods) if id >= staying]
    if facts.replicas != staying or not facts.keeps_claims:
        who = _brokers(going) if going else _all(situation.brokers)
        return Step(situation, f"{change}: {who} stop", patch={"spec": _scaled(staying)})
    if facts.pods:
        stuck = "; ".join(state.message for state in facts.states if state.state == "Lost" and state.message)
        waits = f"waits until {_brokers(going)} {'has' if len(going) == 1 else 'have'} stopped"
        return Step(situation, f"{change}: {waits}" + (f" ({stuck})" if stuck else ""))
    if not situation.empty:
        return Step(situation, f"{change}: waits until {CONTROLLER}")
    if facts.unknown:
        why = f"no broker of {title(situation.runs)} is left, and {title(situation.wanted)} is not started"
        return Step(situation, why, refusal=f"{why}: {facts.unknown}")
    note = f"no broker of {title(situation.runs)} is left; {title(situation.wanted)} starts on their volumes"
    patch = _start(situation.wanted, situation.version)
    return Step(situation, note, patch=patch, when_empty=True, event=("EngineStarting", note))


def _start(engine: str, version: str = "") -> Mapping[str, Any]:
    metadata: dict[str, Any] = {"annotations": {ENGINE: engine, PHASE: str(Phase.STARTING)}}
    return {"metadata": metadata | ({"resourceVersion": version} if version else {})}


def _starting(situation: Situation, facts: Facts) -> Step:
    serves = isinstance(facts.view, ClusterView) and all(state.state == "Running" for state in facts.states)
    if situation.differs:
        return _taken_back(situation, facts, serves=serves)
    doing = f"{title(situation.runs)} starts on the brokers' volumes"
    if situation.switches and not situation.empty:
        patch = {"spec": _scaled(0)} if facts.replicas else None
        return Step(situation, f"{doing}: waits until {CONTROLLER}", patch=patch)
    away = [state.id for state in facts.states if state.state != "Running"]
    if away:
        fails = any(state.state in _FAILING for state in facts.states)
        hint = "; if they cannot, set engine.type back" if fails else ""
        return Step(situation, f"{doing}: waits until {_brokers(away)} {'runs' if len(away) == 1 else 'run'}{hint}")
    waits = _not_back(situation, facts)
    if waits:
        return Step(situation, f"{doing}: waits until {waits}")
    return _done(situation, facts.now)


def _not_back(situation: Situation, facts: Facts) -> str:
    if not isinstance(facts.view, ClusterView):
        return "the cluster answers"
    fenced = sorted(set(range(situation.brokers)) - {b.id for b in facts.view.alive})
    if fenced:
        return f"the cluster has unfenced {_brokers(fenced)}"
    if not isinstance(facts.health, ClusterHealth):
        return "the cluster says which partitions are in sync"
    return _out_of_sync(facts.health)


def _done(situation: Situation, now: datetime) -> Step:
    patch = {"metadata": {"annotations": {PHASE: None, BROKERS: None, SINCE: None}}}
    took = (
        f", {(now - situation.since).total_seconds():.0f} s after the brokers were stopped" if situation.since else ""
    )
    note = f"{title(situation.runs)} runs on all brokers, and all replicas are in sync{took}"
    return Step(situation, "", patch=patch, event=("EngineExchanged", note))


def _taken_back(situation: Situation, facts: Facts, *, serves: bool) -> Step:
    """Another engine is declared while this one has not come back whole: nothing has to be in sync for its stop."""
    refusal = _refusal(situation, facts)
    if refusal:
        return Step(situation, refusal=refusal)
    allowed, window = facts.window
    if serves and facts.unknown is None and not facts.certain:
        change = f"{title(situation.wanted)} is to take over from {title(situation.runs)}"
        return Step(situation, f"{change}: waits until the cluster says what it has stored")
    if serves and not allowed:
        return Step(
            situation, f"{title(situation.wanted)} is to take over from {title(situation.runs)}: {window}", held=True
        )
    return _stop(situation, facts.now)


def is_interrupted(step: Step, now: datetime) -> bool:
    """Whether brokers are away because of an exchange, and not for longer than it should take."""
    situation = step.situation
    if situation.phase is Phase.STOPPING or step.begins:
        return True
    lasts = (now - situation.since).total_seconds() if situation.since is not None else 0.0
    return bool(step.words) and situation.phase is Phase.STARTING and lasts < PATIENCE_SECONDS


def _brokers(ids: Sequence[int]) -> str:
    names = ", ".join(map(str, ids))
    return f"broker {names}" if len(ids) == 1 else f"brokers {names}"


def _all(count: int) -> str:
    return "the broker" if count == 1 else f"all {count} brokers"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
