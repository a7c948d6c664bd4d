"""Requests to other replicas: one at a time to each, and a pause after those that came to nothing."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from broadsheet_broker.raft.messages import Address, Question, Send

_LONGEST_PAUSE_MS = 500.0


class _Sent(NamedTuple):
    request_id: int
    question: Question


class Outbox:
    """Which other replica may be asked now. Forgetting a request makes its answer count for nothing."""

    def __init__(self, random: Random, retry_backoff_ms: float) -> None:
        self._random = random
        self._retry_backoff_ms = retry_backoff_ms
        self._sent: dict[int, _Sent] = {}
        self._resume_at: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._last_id = 0

    def send(self, node_id: int, address: Address, question: Question) -> Send:
        self._last_id += 1
        self._sent[node_id] = _Sent(self._last_id, question)
        return Send(self._last_id, node_id, address, question)

    def is_waiting(self, node_id: int) -> bool:
        return node_id in self._sent

    def ready_at(self, node_id: int, now_ms: float) -> float:
        """When this node may be asked: now or earlier, later, or never before it has answered."""
        if node_id in self._sent:
            return math.inf
        return self._resume_at.get(node_id, now_ms)

    def take(self, request_id: int) -> tuple[int, Question] | None:
        """The node and the question of a request; None when the answer no longer matters."""
        for node_id, sent in self._sent.items():
            if sent.request_id == request_id:
                del self._sent[node_id]
                return node_id, sent.question
        return None

    def succeeded(self, node_id: int) -> None:
        self._failures.pop(node_id, None)
        self._resume_at.pop(node_id, None)

    def back_off(self, node_id: int, now_ms: float) -> None:
        """Let the node alone for a while, longer with every failure in a row."""
        failures = self._failures[node_id] = self._failures.get(node_id, 0) + 1
        pause = min(self._retry_backoff_ms * 2 ** min(failures - 1, 10), _LONGEST_PAUSE_MS)
        self._resume_at[node_id] = now_ms + pause * self._random.uniform(0.8, 1.2)

    def has_failed(self, node_id: int) -> bool:
        """Whether the last request to this node came to nothing."""
        return node_id in self._failures

    def forget(self) -> None:
        """Another epoch or role: answers to earlier questions no longer count, and no node is spared."""
        self._sent.clear()
        self._resume_at.clear()
        self._failures.clear()
