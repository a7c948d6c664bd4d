"""What a replica of the metadata log sends: its questions to other replicas, and records to those that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft.storage import MetadataLog
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.peers import Address, PeerError, Peers


class Sending:
    """Questions on their way. The answers, or why there are none, go to the state machine."""

    def __init__(
        self, peers: Peers | None, cluster_id: str, request_timeout_ms: int, step: Callable[[m.Message], None]
    ) -> None:
        self._peers = peers
        self._cluster_id = cluster_id
        self._timeout = request_timeout_ms / 1000
        self._step = step

    def send(self, send: m.Send) -> None:
        """Send one question."""
        if self._peers is None:
            return
        from broadsheet_broker.raft import protocol  # many messages, which a quorum of one never needs

        request, version = protocol.request_of(send.question, self._cluster_id)
        long_poll = isinstance(send.question, m.Fetch | m.FetchSnapshot)

        def answered(message: Any, error: PeerError | None) -> None:
            if error is not None:
                self._step(m.Answered(send.request_id, None, error.kind))
            else:
                self._step(m.Answered(send.request_id, protocol.answer_of(message)))

        self._peers.send(
            send.node_id,
            Address(*send.address),
            request,
            version,
            answered,
            timeout=self._timeout,
            lane="raft-fetch" if long_poll else "raft",
        )


def reply_records(storage: MetadataLog, effect: m.ReplyRecords) -> None:
    """Answer with records of the log, or why they cannot be read."""
    try:
        records: Any = storage.log.read(effect.offset, effect.max_bytes).data
        answer = replace(effect.answer, records=records)
    except KafkaError as error:
        answer = replace(effect.answer, error=error.code)
    effect.token(answer)
