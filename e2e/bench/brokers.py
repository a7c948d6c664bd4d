"""Several brokers as one cluster on this machine, all of the same kind: each is a broker and a voter of the quorum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from e2e.process import BrokerProcess

REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


class BrokerCluster:
    """`brokers` by node id, from 1 on. They are started together, since none is ready without a majority."""

    def __init__(
        self, kind: Callable[[], BrokerProcess], size: int = 3, overrides: Mapping[str, str] | None = None
    ) -> None:
        self.brokers: dict[int, BrokerProcess] = {node: kind() for node in range(1, size + 1)}
        voters = ",".join(f"{node}@127.0.0.1:{broker.controller_port}" for node, broker in self.brokers.items())
        for node, broker in self.brokers.items():
            broker.overrides = {
                **REPLICATED,
                "node.id": str(node),
                "controller.quorum.voters": voters,
                **(overrides or {}),
            }

    @property
    def name(self) -> str:
        return self.brokers[1].name

    @property
    def bootstrap(self) -> str:
        """All brokers, for clients."""
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    @property
    def pids(self) -> list[int]:
        return [broker.pid for broker in self.brokers.values() if broker.running]

    def others(self, node: int) -> list[BrokerProcess]:
        """All brokers but one."""
        return [broker for other, broker in self.brokers.items() if other != node]

    def start(self) -> Self:
        try:
            self._together(BrokerProcess.start)
        except Exception:
            self.close()
            raise
        return self

    def last_words(self) -> str:
        return "\n".join(f"broker {node}:\n{broker.last_words()}" for node, broker in self.brokers.items())

    def close(self) -> None:
        """Stop all of them at once and remove what was made for them."""
        with contextlib.suppress(TimeoutError):
            self._together(BrokerProcess.kill)
        for broker in self.brokers.values():
            broker.close()

    def _together(self, act: Callable[[BrokerProcess], object]) -> None:
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(act, self.brokers.values()))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
