"""Kafka's errors as values that become the reason and message of a condition."""

from __future__ import annotations

from typing import Any

from kafka import errors as kafka_errors

from broadsheet_operator.reconcilers.observed import Failure
from broadsheet_operator.reconcilers.reasons import Reason

NO_ERROR = 0
UNKNOWN_TOPIC_OR_PARTITION = 3
TOPIC_ALREADY_EXISTS = 36
GROUP_ID_NOT_FOUND = 69

_WORDS: dict[int, tuple[Reason, bool, str]] = {
    # code: reason, retriable, words of our own where Kafka's are meagre
    7: (Reason.TIMEOUT, True, "the cluster did not answer in time"),
    14: (Reason.COORDINATOR_LOADING, True, "the group's coordinator is still loading its offsets"),
    15: (Reason.COORDINATOR_NOT_AVAILABLE, True, "the group's coordinator is not available yet"),
    16: (Reason.COORDINATOR_NOT_AVAILABLE, True, "the group's coordinator has just moved"),
    17: (Reason.INVALID_REQUEST, False, "the topic's name is not allowed"),
    22: (Reason.GROUP_NOT_EMPTY, True, "the group has members"),
    25: (Reason.GROUP_NOT_EMPTY, True, "the group has members"),
    27: (Reason.GROUP_NOT_EMPTY, True, "the group is just rebalancing"),
    29: (Reason.UNAUTHORIZED, False, ""),
    30: (Reason.UNAUTHORIZED, False, ""),
    31: (Reason.UNAUTHORIZED, False, ""),
    36: (Reason.TOPIC_EXISTS, True, "a topic of this name exists already"),
    37: (Reason.INVALID_REQUEST, False, ""),
    38: (Reason.NOT_SUPPORTED, False, "the cluster has too few brokers for this replication factor"),
    39: (Reason.INVALID_REQUEST, False, ""),
    40: (Reason.INVALID_CONFIG, False, ""),
    41: (Reason.NOT_CONTROLLER, True, "the cluster is choosing its controller"),
    42: (Reason.INVALID_REQUEST, False, ""),
    44: (Reason.POLICY_VIOLATION, False, ""),
    68: (Reason.GROUP_NOT_EMPTY, True, "the group has members"),
    73: (Reason.NOT_SUPPORTED, False, "the cluster has topic deletion switched off"),
    89: (Reason.THROTTLED, True, "the cluster limits how fast topics are changed"),
}


def failure_of_code(code: int, message: str | None, what: str) -> Failure | None:
    """The failure behind an error code of a response; None for no error."""
    if code == NO_ERROR:
        return None
    name = kafka_errors.for_code(code)
    reason, retriable, words = _WORDS.get(code, (Reason.KAFKA_ERROR, _is_retriable(name), ""))
    detail = message or words or (getattr(name, "description", "") or name.__name__)
    return Failure(reason, f"{what}: {detail}", retriable)


def _is_retriable(error: Any) -> bool:
    return isinstance(error, type) and issubclass(error, kafka_errors.RetriableError)


def failure_of_exception(error: BaseException, what: str) -> Failure:
    """The failure behind what the client library raised."""
    if isinstance(error, kafka_errors.BrokerResponseError) and error.errno:
        found = failure_of_code(error.errno, str(error), what)
        if found is not None:
            return found
    if isinstance(error, (kafka_errors.IncompatibleBrokerVersion, kafka_errors.UnsupportedVersionError)):
        return Failure(Reason.NOT_SUPPORTED, f"{what}: this cluster is too old for it", False)
    if isinstance(error, (kafka_errors.KafkaTimeoutError, TimeoutError)):
        return Failure(Reason.TIMEOUT, f"{what}: no answer in time")
    if isinstance(error, (kafka_errors.KafkaError, OSError)):
        return Failure(Reason.UNREACHABLE, f"{what}: {_plain(error)}")
    return Failure(Reason.INTERNAL_ERROR, f"{what}: {type(error).__name__}: {error}")


def _plain(error: BaseException) -> str:
    text = str(error).strip()
    name = type(error).__name__
    return "cannot reach the brokers" if not text or text.startswith(name) else text
