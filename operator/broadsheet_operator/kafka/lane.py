"""Lanes: threads that talk to one Kafka cluster, so that nothing else waits while it does not answer.

A gateway blocks for as long as its timeout. Each lane has a gateway and the one thread that may use it. A cluster has a
lane for each kind of work, so that a slow lag query delays neither topics nor a restart.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple, Unpack

from broadsheet_operator.kafka.gateway import KafkaGateway

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
GatewayFactory = Callable[[Sequence[str]], KafkaGateway]
_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Lane:
    """A gateway and the one thread that may use it; both are made on first use, since a gateway may connect at once.

    The thread is a daemon: a process ends although a call of it still waits for an answer.
    """

    def __init__(self, name: str, servers: Sequence[str], factory: GatewayFactory) -> None:
        self._name = name
        self._servers = tuple(servers)
        self._factory = factory
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed: Future[None] | None = None

    def submit(self, function: Callable[[KafkaGateway, Unpack[Ts]], T], *arguments: *Ts) -> Future[T]:
        """Have it called with the gateway, after what was submitted before. RuntimeError when the lane is closed."""
        if self._closed is not None:
            raise RuntimeError(f"the lane {self._name} is closed")
        future: Future[T] = Future()
        self._jobs.put((future, function, arguments))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return future

    async def call(self, function: Callable[[KafkaGateway, Unpack[Ts]], T], *arguments: *Ts) -> T:
        """`submit`, and wait for the result."""
        return await asyncio.wrap_future(self.submit(function, *arguments))

    def close(self) -> Future[None]:
        """Let go of the gateway when what was submitted is done; the future says when that has happened."""
        if self._closed is None:
            self._closed = Future()
            self._closed.set_running_or_notify_cancel()  # a caller that stops waiting cannot cancel it
            if self._thread is None:
                self._closed.set_result(None)
            self._jobs.put(None)
        return self._closed

    def _run(self) -> None:
        gateway: KafkaGateway | None = None
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    if gateway is None:
                        gateway = self._factory(self._servers)
                    future.set_result(function(gateway, *arguments))
                except BaseException as error:
                    future.set_exception(error)
            del job, future, function, arguments  # a lane that waits holds on to nothing
        assert self._closed is not None
        try:
            if gateway is not None:
                gateway.close()
            self._closed.set_result(None)
        except BaseException as error:
            self._closed.set_exception(error)


class Lanes:
    """The lanes to one cluster, by the name of their work."""

    def __init__(self, cluster: str, servers: Sequence[str], factory: GatewayFactory) -> None:
        self._cluster = cluster
        self._servers = tuple(servers)
        self._factory = factory
        self._lanes: dict[str, Lane] = {}
        self._closed = False

    def __getitem__(self, work: str) -> Lane:
        """The lane for this work. RuntimeError for a new one when they are closed."""
        if work not in self._lanes:
            if self._closed:
                raise RuntimeError(f"the lanes to {self._cluster} are closed")
            self._lanes[work] = Lane(f"{work} {self._cluster}", self._servers, self._factory)
        return self._lanes[work]

    def close(self) -> list[Future[None]]:
        """Close each of them; what is under way is not waited for."""
        self._closed = True
        return [lane.close() for lane in self._lanes.values()]
