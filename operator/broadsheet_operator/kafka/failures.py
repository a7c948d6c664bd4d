"""Kafka's errors as values that become the reason and message of a condition."""

from __future__ import annotations

from typing import Any

from kafka import errors as kafka_errors

from broadsheet_operator.reconcilers.observed import Failure

NO_ERROR = 0
UNKNOWN_TOPIC_OR_PARTITION = 3
TOPIC_ALREADY_EXISTS = 36
GROUP_ID_NOT_FOUND = 69

_WORDS: dict[int, tuple[str, bool, str]] = {
    # code: reason, retriable, words of our own where Kafka's are meagre
    7: ("Timeout", True, "the cluster did not answer in time"),
    14: ("CoordinatorLoading", True, "the group's coordinator is still loading its offsets"),
    15: ("CoordinatorNotAvailable", True, "the group's coordinator is not available yet"),
    16: ("CoordinatorNotAvailable", True, "the group's coordinator has just moved"),
    17: ("InvalidRequest", False, "the topic's name is not allowed"),
    22: ("GroupNotEmpty", True, "the group has members"),
    25: ("GroupNotEmpty", True, "the group has members"),
    27: ("GroupNotEmpty", True, "the group is just rebalancing"),
    29: ("Unauthorized", False, ""),
    30: ("Unauthorized", False, ""),
    31: ("Unauthorized", False, ""),
    36: ("TopicExists", True, "a topic of this name exists already"),
    37: ("InvalidRequest", False, ""),
    38: ("NotSupported", False, "the cluster has too few brokers for this replication factor"),
    39: ("InvalidRequest", False, ""),
    40: ("InvalidConfig", False, ""),
    41: ("NotController", True, "the cluster is choosing its controller"),
    42: ("InvalidRequest", False, ""),
    44: ("PolicyViolation", False, ""),
    68: ("GroupNotEmpty", True, "the group has members"),
    73: ("NotSupported", False, "the cluster has topic deletion switched off"),
    89: ("Throttled", True, "the cluster limits how fast topics are changed"),
}


def failure_of_code(code: int, message: str | None, what: str) -> Failure | None:
    """The failure behind an error code of a response; None for no error."""
    if code == NO_ERROR:
        return None
    name = kafka_errors.for_code(code)
    reason, retriable, words = _WORDS.get(code, ("KafkaError", _is_retriable(name), ""))
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
        return Failure("NotSupported", f"{what}: this cluster is too old for it", False)
    if isinstance(error, (kafka_errors.KafkaTimeoutError, TimeoutError)):
        return Failure("Timeout", f"{what}: no answer in time")
    if isinstance(error, (kafka_errors.KafkaError, OSError)):
        return Failure("Unreachable", f"{what}: {_plain(error)}")
    return Failure("InternalError", f"{what}: {type(error).__name__}: {error}")


def _plain(error: BaseException) -> str:
    text = str(error).strip()
    name = type(error).__name__
    return "cannot reach the brokers" if not text or text.startswith(name) else text
