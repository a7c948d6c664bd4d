"""Metadata transactions (KIP-868): what stands between Begin and End counts when End comes, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broadsheet_broker.metadata.delta import MetadataDelta, corrupt
from broadsheet_broker.wire.messages.abort_transaction_record import AbortTransactionRecord
from broadsheet_broker.wire.messages.begin_transaction_record import BeginTransactionRecord
from broadsheet_broker.wire.messages.end_transaction_record import EndTransactionRecord


class Replayer:
    """Feeds committed records to deltas, holding back those of a transaction that is not over."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[Any] | None = None

    @property
    def in_transaction(self) -> bool:
        return self._held is not None

    def replay(self, delta: MetadataDelta, records: Iterable[Any]) -> None:
        for record in records:
            kind = type(record)
            if kind is BeginTransactionRecord:
                if self._held is not None:
                    raise corrupt("a metadata transaction begins within another")
                self._held = []
            elif kind is EndTransactionRecord or kind is AbortTransactionRecord:
                if self._held is None:
                    raise corrupt("a metadata transaction ends that never began")
                if kind is EndTransactionRecord:
                    delta.replay_all(self._held)
                self._held = None
            elif self._held is not None:
                self._held.append(record)
            else:
                delta.replay(record)
