"""Conditions and statuses: how they change, and when a change is worth writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from broadsheet_operator.api.meta import Condition, Status, without_empty
from broadsheet_operator.reconcilers.reasons import Health, Reason, health_of

S = TypeVar("S", bound=Status)
MESSAGE_LIMIT = 2048

TruthValue = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A condition before it has a time."""

    type: str
    status: TruthValue
    reason: Reason
    message: str = ""


def ready(message: str = "") -> list[Statement]:
    """It is as declared."""
    return [Statement("Ready", "True", Reason.READY, message)]


def working(reason: Reason, message: str) -> list[Statement]:
    """It is not yet as declared, and the operator is changing it."""
    return [Statement("Ready", "False", reason, message), Statement("Reconciling", "True", reason, message)]


def stuck(reason: Reason, message: str) -> list[Statement]:
    """It stays as it is until a person changes something."""
    return [Statement("Ready", "False", reason, message), Statement("Stalled", "True", reason, message)]


def waiting(reason: Reason, message: str) -> list[Statement]:
    """It is not as declared; it may become so by itself."""
    return [Statement("Ready", "False", reason, message)]


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    previous: Status | None, statements: Iterable[Statement], generation: int, now: datetime
) -> list[Condition]:
    """The statements as conditions; the time of the last transition stays where the truth value did not change."""
    result: list[Condition] = []
    for s in statements:
        before = previous.condition(s.type) if previous else None
        unchanged = before is not None and before.status == s.status
        result.append(
            Condition(
                type=s.type,
                status=s.status,
                reason=str(s.reason),
                message=s.message if len(s.message) <= MESSAGE_LIMIT else s.message[: MESSAGE_LIMIT - 3] + "...",
                last_transition_time=before.last_transition_time if before and unchanged else format_time(now),
                observed_generation=generation,
            )
        )
    return result


def as_before_the_pause(previous: Status | None, generation: int, message: str) -> list[Statement]:
    """What is said of a resource whose Cluster is paused: nothing is observed, so what was Ready stays Ready.

    Otherwise a pause would turn everything in the cluster not Ready. What has changed since is not done, and not Ready.
    """
    paused = Statement("Paused", "True", Reason.PAUSED, message)
    return [*as_before(previous, generation, Reason.PAUSED, message), paused]


def as_before(previous: Status | None, generation: int, reason: Reason, message: str) -> list[Statement]:
    """What is said of a resource whose Cluster is not asked about it, because of `message`: what was Ready stays it."""
    current = previous.condition("Ready") if previous else None
    if previous and previous.observed_generation == generation and current is not None and current.status == "True":
        return ready(f"as it was before {message}")
    return waiting(reason, message)


def overdue(previous: Status | None, current: S, bad_seconds: float, patience_seconds: float, now: datetime) -> S:
    """The status, with Stalled once it has been bad news for too long: what heals by itself has healed by then.

    Without it a program that reads conditions (kstatus, Argo CD) takes what is broken for work in progress, for ever.
    `bad_seconds`: for how long it has been bad news. The model is a Deployment's progressDeadlineSeconds.
    """
    told = current.condition("Ready")
    if told is None or not is_bad_news(current) or current.condition("Stalled") is not None:
        return current
    before = previous.condition("Stalled") if previous else None
    held = before is not None and (before.reason, before.observed_generation) == (told.reason, told.observed_generation)
    if not held and bad_seconds < patience_seconds:
        return current
    minutes = f"{patience_seconds / 60:g} minutes"
    stalled = Condition(
        type="Stalled",
        status="True",
        reason=told.reason,
        message=f"not Ready for more than {minutes}: {told.message}"[:MESSAGE_LIMIT],
        last_transition_time=before.last_transition_time if before and before.status == "True" else format_time(now),
        observed_generation=told.observed_generation,
    )
    return current.model_copy(update={"conditions": [*current.conditions, stalled]})


def with_statements(previous: S | None, empty: S, statements: Iterable[Statement], generation: int, now: datetime) -> S:
    """The previous status with other conditions: for when nothing new could be observed."""
    base = previous or empty
    told = conditions(previous, statements, generation, now)
    return base.model_copy(update={"observed_generation": generation, "conditions": told})


def without_refused(status: S, fields: Iterable[str], words: str, now: datetime) -> S:
    """A status without the parts that the API server refused, and with Stalled in the API server's words.

    `fields`: paths as `status.configs` or `status.brokers[0].message`. Without any, or when one of the conditions is
    refused, only the conditions that are said here are left.
    """
    names = {field.removeprefix("status.").split(".")[0].split("[")[0] for field in fields}
    by_alias = {info.alias or name: name for name, info in type(status).model_fields.items()}
    dropped = {by_alias[name] for name in names if name in by_alias} - {"conditions", "observed_generation"}
    keeps_conditions = bool(dropped) and "conditions" not in names
    if not dropped:
        dropped = set(type(status).model_fields) - {"conditions", "observed_generation"}
    message = f"the API server refuses this status, and a part of it is left out: {words}"
    told = stuck(Reason.STATUS_REFUSED, message[:MESSAGE_LIMIT])
    if keeps_conditions:
        told = [statement for statement in told if statement.type == "Stalled"]
    kept = [c for c in status.conditions if keeps_conditions and c.type not in ("Stalled", "Reconciling")]
    fresh = conditions(None, told, status.observed_generation or 0, now)
    empty = {name: type(status).model_fields[name].get_default(call_default_factory=True) for name in dropped}
    return status.model_copy(update={**empty, "conditions": [*kept, *fresh]})


def is_bad_news(status: Status) -> bool:
    """Whether a person should look: not Ready, not being changed, and for a bad reason."""
    current, reconciling = status.condition("Ready"), status.condition("Reconciling")
    busy = reconciling is not None and reconciling.status == "True"
    return current is not None and current.status != "True" and not busy and health_of(current.reason) is Health.BAD


def bad_since(previous: Status | None, current: Status) -> datetime | None:
    """Since when this generation has not been Ready, if it was bad news when its status was written last.

    For an operator that has only begun: else a restart would take the Stalled of what stays broken back for a while.
    """
    if previous is None or previous.observed_generation != current.observed_generation or not is_bad_news(previous):
        return None
    told = previous.condition("Ready")
    try:
        return datetime.fromisoformat(told.last_transition_time) if told is not None else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Figures:
    """Fields of a status that change all the time: lag, sizes. A change of those alone is written rarely."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """As pydantic's `exclude` has them: a name with True, or with what is meant inside of it."""
    quiet_seconds: float = 10.0
    """They are written at least this long after the last write."""
    slow: Mapping[str, Any] = field(default_factory=dict)
    """Those of the fields whose change alone is written even less often."""
    slow_seconds: Callable[[Any], float] = lambda status: 300.0
    """How long after the last write, given the status."""


NO_FIGURES = Figures()


def should_write(
    previous: Status | None, current: Status, figures: Figures, last_write: datetime | None, now: datetime
) -> bool:
    """Whether a status is to be written: at once if something changed that a person cares about, later otherwise."""
    if previous is not None and (previous == current or previous.written() == current.written()):
        return False
    if previous is None or last_write is None:
        return True
    if _without(previous, figures.fields) != _without(current, figures.fields):
        return True
    quiet = figures.quiet_seconds
    if figures.slow and _without(previous, figures.slow) == _without(current, figures.slow):
        quiet = max(quiet, figures.slow_seconds(current))
    return (now - last_write).total_seconds() >= quiet


def _without(status: Status, fields: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = without_empty(status.model_dump(exclude=dict(fields)))
    return told
