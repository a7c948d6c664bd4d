"""Requests to a cluster through kafka-python's connections: several at once, each with its own answer or failure.

kafka-python's admin methods raise for the first error of many, so the requests are built here; connections, versions,
and metadata stay the library's work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient

from broadsheet_operator.kafka.failures import failure_of_exception
from broadsheet_operator.reconcilers.observed import Failure
from broadsheet_operator.reconcilers.reasons import Reason

logger = logging.getLogger(__name__)

CLIENT_ID = "broadsheet"
REQUESTS_IN_FLIGHT = 64
"""kafka-python refuses a request rather than let it wait when this many are on their way."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to one broker (None: any), and what it is for, as a phrase for errors."""

    request: Any
    what: str
    node: int | None = None


class Wire:
    """A connection to a cluster that comes into being when it is needed, and again after it broke."""

    def __init__(self, bootstrap_servers: Sequence[str], timeout_ms: int = 10_000) -> None:
        self._servers = list(bootstrap_servers)
        self._timeout_ms = timeout_ms
        self._admin: KafkaAdminClient | None = None

    def ask(self, calls: Sequence[Call]) -> list[Any | Failure]:
        """All calls at once; answers and failures in their order."""
        if not calls:
            return []
        try:
            admin = self._connected()
        except Exception as error:  # the library raises more kinds than it documents
            return [failure_of_exception(error, call.what) for call in calls]
        try:
            answers: list[Any | Failure] = admin._manager.run(self._send_all, admin, calls)
        except Exception as error:
            answers = [failure_of_exception(error, call.what) for call in calls]
        if all(isinstance(a, Failure) and a.reason in (Reason.UNREACHABLE, Reason.INTERNAL_ERROR) for a in answers):
            # Start afresh next time: the brokers may have come back under other addresses.
            self.close()
        return answers

    def ask_one(self, call: Call) -> Any | Failure:
        """One call."""
        return self.ask([call])[0]

    async def _send_all(self, admin: Any, calls: Sequence[Call]) -> list[Any | Failure]:
        manager = admin._manager
        sent: list[Any] = []
        for call in calls:
            try:
                if call.node is not None and manager.cluster.broker_metadata(call.node) is None:
                    await manager.cluster.refresh_metadata()
                sent.append(manager.send(call.request, node_id=call.node, request_timeout_ms=self._timeout_ms))
            except Exception as error:
                sent.append(failure_of_exception(error, call.what))
        answers: list[Any | Failure] = []
        for call, pending in zip(calls, sent, strict=True):
            if isinstance(pending, Failure):
                answers.append(pending)
                continue
            try:
                answers.append(await pending)
            except Exception as error:
                answers.append(failure_of_exception(error, call.what))
        return answers

    def _connected(self) -> Any:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self._servers,
                client_id=CLIENT_ID,
                request_timeout_ms=self._timeout_ms,
                bootstrap_timeout_ms=min(self._timeout_ms, 5000),
                reconnect_backoff_max_ms=1000,
                metadata_max_age_ms=30_000,
                max_in_flight_requests_per_connection=REQUESTS_IN_FLIGHT,
            )
        return self._admin

    def close(self) -> None:
        """Let go of connections and the library's thread."""
        admin, self._admin = self._admin, None
        if admin is not None:
            try:
                admin.close()
            except Exception as error:
                logger.debug("while closing: %s", error)
