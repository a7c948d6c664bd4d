"""The histories that real clients leave are those that the checker understands."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.history.checker import check
from tests.support.history.confluent import RecordingConsumer, RecordingProducer, read_finals
from tests.support.history.operations import History, Outcome, Poll


def test_real_clients_leave_a_history_without_anomalies(bootstrap: str, new_topic: Callable[..., str]) -> None:
    topic, history = new_topic(2), History(durable_acks=frozenset({-1, 1}))
    members = [
        RecordingConsumer(bootstrap, history, f"member-{number}", topic, group_id="history") for number in range(2)
    ]
    for member in members:
        member.subscribe()
    with (
        RecordingProducer(bootstrap, history, "one", topic, acks="1") as one,
        RecordingProducer(bootstrap, history, "idempotent", topic, acks="all", enable_idempotence=True) as idempotent,
    ):
        for number in range(300):
            one.send(number % 2)
            idempotent.send(number % 2, "x" * number)
    assert [send.outcome for send in history.sends] == [Outcome.OK] * 600
    deadline = time.monotonic() + 60
    while sum(type(read) is Poll for read in history.reads) < 600:
        assert time.monotonic() < deadline, f"{len(history.reads)} reads"
        for member in members:
            member.poll(0.05)
            member.commit()
    for member in members:
        member.close()
    history.finals += read_finals(bootstrap, topic, 2)
    assert sum(len(final.records) for final in history.finals) == 600
    assert check(history) == []
    history.finals[0] = history.finals[0]._replace(records=history.finals[0].records[:-1])
    assert [anomaly.kind for anomaly in check(history)] == ["lost write"]
