"""Kafka's error codes, against kio's table of them."""

from __future__ import annotations

from kio.schema.errors import ErrorCode as Theirs

from broadsheet_broker.wire.errors import ErrorCode, KafkaError


def test_codes_names_and_retriability_are_kafkas() -> None:
    ours = {code.value: (code.name.lower(), code.retriable) for code in ErrorCode}
    theirs = {code.value: (code.name, code.retriable) for code in Theirs}
    assert ours == theirs


def test_each_code_but_none_has_a_message() -> None:
    assert [code for code in ErrorCode if not code.message] == [ErrorCode.NONE]


def test_a_refusal_says_its_code_and_its_reason() -> None:
    assert str(KafkaError(ErrorCode.INVALID_PARTITIONS)) == (
        "INVALID_PARTITIONS: The number of partitions is not valid."
    )
    refusal = KafkaError(ErrorCode.INVALID_PARTITIONS, "0 partitions")
    assert (refusal.code, refusal.message) == (37, "0 partitions")
