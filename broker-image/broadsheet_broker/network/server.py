"""The listeners of a node: sockets, connections, their limits and their counters."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import sys
from collections import Counter as Tally
from collections.abc import Collection, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from broadsheet_broker.apis.api_versions import CONTROLLER_APIS, CONTROLLER_ONLY, version_answer
from broadsheet_broker.config.listeners import Listener, parse_map
from broadsheet_broker.network.admission import Admission
from broadsheet_broker.network.connection import KafkaConnection
from broadsheet_broker.network.dispatch import API_VERSIONS, Dispatcher, ServedApi
from broadsheet_broker.network.memory_guard import MemoryGuard
from broadsheet_broker.network.pressure import NONE, SHEDDING, request_bytes, target_of
from broadsheet_broker.network.protocol import KafkaProtocol
from broadsheet_broker.network.turns import Turns
from broadsheet_broker.seams.buffers import BufferPool
from broadsheet_broker.seams.memory import memory_limit
from broadsheet_broker.seams.metrics import Family

if TYPE_CHECKING:
    from broadsheet_broker.apis.registry import Api
    from broadsheet_broker.apis.request import Services
    from broadsheet_broker.config import BrokerConfig
    from broadsheet_broker.network.pending import PendingRequest
    from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

_REFUSALS_LOGGED_EVERY = 10.0
"""Seconds between two log lines about refused connections."""

_FAREWELL = 1.0
"""Seconds that clients get, when the server stops, to receive answers already sent."""


_RESUMED_AT_ONCE = 8
"""Connections that are looked at when bytes of requests became free; each of them looks at the next ones."""


class ListenError(Exception):
    """A listener cannot be bound. The message says which address, why, and what to change."""


class Server:
    """Listens for clients and hands their requests to the handlers of `registry`.

    `bind` reserves the addresses (a client is refused until `start`, which takes connections), so that a broker can
    register the ports it really has before it serves.
    """

    def __init__(
        self, environment: Environment, config: BrokerConfig, services: Services, registry: Mapping[int, Api]
    ) -> None:
        self.loop = environment.loop
        self.now = environment.timer
        self.pool = BufferPool(environment.on_buffer)
        self.turns = Turns(environment.loop.call_soon)
        self.largest_request = config.get_int("socket.request.max.bytes")
        self.most_pending = config.get_int("broadsheet.connection.max.requests")
        self.most_pending_bytes = config.get_int("broadsheet.connection.max.bytes")
        target = config.get_int("broadsheet.memory.target")
        if target < 0:
            target = target_of(memory_limit(environment.files))
        queued = config.get_int("queued.max.request.bytes")
        self.most_queued_bytes = request_bytes(queued, target, self.largest_request) or sys.maxsize
        self.admission: Admission[KafkaConnection] = Admission(self.most_queued_bytes, environment.timer)
        self.guard = MemoryGuard(self, environment, target)
        self.pressure = NONE
        """See `pressure`: whether connections that hold something are read, and new ones taken."""
        self.queued_bytes = 0
        """Bytes of requests of all connections that are not answered."""
        self.most_unsent_bytes = config.get_int("broadsheet.answers.max.bytes")
        self.unsent_bytes = 0
        """Bytes of answers of all connections that are in memory and not handed to a transport."""
        self.stuck_bytes = 0
        """Bytes of pieces (see `sending`) that clients have not taken."""
        self.paused: dict[KafkaConnection, None] = {}
        """Connections that are not being read, because of a limit."""
        self.connections: dict[KafkaConnection, None] = {}
        """In the order in which they came; a set's order would differ from run to run in the simulation."""
        self.bound_ports: dict[str, int] = {}
        """The port of each listener, by its name, once bound."""
        self._config = config
        self._controller_listeners = frozenset(config.controller_listener_names)
        work, metrics = environment.work, environment.metrics
        self._dispatcher = Dispatcher(
            self.loop, self.now, services, work, registry, metrics, CONTROLLER_APIS, CONTROLLER_ONLY
        )
        self.call = self._dispatcher.call
        self._servers: dict[str, list[asyncio.AbstractServer]] = {}
        """By the name of the listener."""
        self._last_id = 0
        self._most_connections = config.get_int("max.connections")
        self._most_per_host = config.get_int("max.connections.per.ip")
        self._most_of_host = _limits_by_host(config)
        self._hosts: Tally[str] = Tally()
        self._idle_seconds = config.get_int("connections.max.idle.ms") / 1000
        self._backlog = config.get_int("socket.listen.backlog.size")
        self._refused = 0
        self._refusal_logged = -_REFUSALS_LOGGED_EVERY
        self._flushes: list[KafkaConnection] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Future[None] | None = None
        name = "kafka_server_socket_server_metrics_connection_"
        self._opened = metrics.counter(name + "creation_total", "Connections taken.")
        self._closed = metrics.counter(name + "close_total", "Connections ended.")
        self._rejected = metrics.counter(
            "broadsheet_connections_rejected_total", "Connections closed because of an invalid request."
        )
        self._over_limit = metrics.counter("broadsheet_connections_refused_total", "Connections above a limit.")
        metrics.gauge("broadsheet_request_queue_bytes", "Bytes of unanswered requests.", lambda: self.queued_bytes)
        metrics.gauge(
            "broadsheet_unsent_answer_bytes", "Bytes of answers that clients have not taken.", lambda: self.unsent_bytes
        )
        metrics.collector(self._families)

    # -- start and stop ------------------------------------------------------------------------------------------------

    async def bind(self) -> None:
        """Bind the addresses of all listeners. Raises ListenError, with nothing left bound."""
        try:
            for listener in self._config.listeners:
                await self._bind(listener)
        except ListenError:
            await self.stop()
            raise

    async def _bind(self, listener: Listener) -> None:
        def connect() -> KafkaProtocol:
            return KafkaProtocol(KafkaConnection(self, listener.name))

        servers, port = await bind(self.loop, listener, connect, backlog=self._backlog, key="listeners")
        self._servers[listener.name] = servers
        self.bound_ports[listener.name] = port

    async def start(self, names: Collection[str] | None = None) -> None:
        """Accept connections on the named listeners, or on all; binds first if that has not happened."""
        if not self._servers:
            await self.bind()
        for name, servers in self._servers.items():
            for server in servers:
                if (names is None or name in names) and not server.is_serving():
                    await server.start_serving()
        if self._sweep is None:
            self._schedule_sweep()
        self.guard.start()

    async def stop(self) -> None:
        """Stop listening, cancel waiting handlers, and close each connection once its answers are sent."""
        servers = [server for same in self._servers.values() for server in same]
        for server in servers:
            server.close()
        self.guard.stop()
        if self._sweep is not None:
            self._sweep.cancel()
        await self._dispatcher.close()
        for connection in list(self.connections):
            connection.close()
        await self._wait_for_connections()
        for connection in list(self.connections):
            connection.abort()
        await self._wait_for_connections()
        for server in servers:
            await server.wait_closed()
        self._servers.clear()

    async def _wait_for_connections(self) -> None:
        if self.connections:
            self._all_gone = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone, _FAREWELL)

    # -- what connections ask ------------------------------------------------------------------------------------------

    def apis_of(self, listener: str) -> dict[int, ServedApi]:
        if listener in self._controller_listeners:
            return self._dispatcher.controller_apis
        return self._dispatcher.apis

    def next_connection_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def admit(self, connection: KafkaConnection, transport: asyncio.Transport) -> bool:
        """Whether the limits leave room for this connection, which is then counted."""
        host = connection.host
        limit = self._most_of_host.get(host, self._most_per_host)
        shed = self.pressure == SHEDDING and connection.listener not in self._controller_listeners
        if shed or len(self.connections) >= self._most_connections or self._hosts[host] >= limit:
            self._refuse(host)
            return False
        self.connections[connection] = None
        self._hosts[host] += 1
        self._opened.value += 1
        self._set_buffer_sizes(transport)
        return True

    def forget(self, connection: KafkaConnection, pending_bytes: int, unsent_bytes: int) -> None:
        """A connection has ended, with this many bytes of unanswered requests, and of answers in memory."""
        if connection not in self.connections:
            return
        del self.connections[connection]
        if not self.connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)
        self.paused.pop(connection, None)
        self.large_request_ended(connection)
        self.queued_bytes -= pending_bytes
        self.unsent_bytes -= unsent_bytes
        self._closed.value += 1
        self._hosts[connection.host] -= 1
        if not self._hosts[connection.host]:
            del self._hosts[connection.host]

    def abandon(self, request: PendingRequest) -> None:
        """The client of an unanswered request is gone: drop what is parked for it. Never raises."""
        gone, request.on_gone = request.on_gone, None
        if gone is not None:
            try:
                gone()
            except Exception:
                logger.exception("a request of API %d could not be dropped", request.api_key)

    def end_unreadable(self, connection: KafkaConnection, error: Exception) -> None:
        """The records of an answer that has begun cannot be read on: its client has to ask again."""
        logger.warning(
            "closing the connection of %s on listener %s: the records that it fetches cannot be read (%s)",
            connection.host, connection.listener, error,
        )  # fmt: skip
        connection.abort()

    def count_rejected(self) -> None:
        self._rejected.value += 1

    def version_answer(self, api: ServedApi) -> Any | None:
        """The answer to a version that is not served, where there is one."""
        return version_answer(api.lowest, api.highest) if api.key == API_VERSIONS else None

    def flush_later(self, connection: KafkaConnection) -> None:
        """Write what this connection has to send at the end of the loop's turn, together with the others."""
        if not self._flushes:
            self.loop.call_soon(self._flush_all)
        self._flushes.append(connection)

    def _flush_all(self) -> None:
        connections, self._flushes = self._flushes, []
        for connection in connections:
            connection.flush_due()

    def resume_paused(self, connection: KafkaConnection) -> None:
        """A connection has made progress: read it again if it was paused, and others that waited for its bytes."""
        if connection in self.paused:
            connection.resume()
        if self.admission.waiting:
            self._admit_more(self.admission.release(None))
        if self.queued_bytes < self.most_queued_bytes < sys.maxsize:
            paused = self.paused
            for other in list(islice(paused, _RESUMED_AT_ONCE)):
                other.resume()
                if other in paused:  # for a limit of its own: others are looked at first the next time
                    del paused[other]
                    paused[other] = None

    def admit_large_request(self, connection: KafkaConnection, size: int) -> bool:
        """Whether there is room for a large request that has begun to arrive; else the connection is resumed later."""
        return self.admission.admit(connection, size, self.queued_bytes)

    def large_request_ended(self, connection: KafkaConnection) -> None:
        """It has arrived, or never will."""
        self._admit_more(self.admission.release(connection))

    def _admit_more(self, waiting: list[KafkaConnection]) -> None:
        for connection in waiting[:_RESUMED_AT_ONCE]:
            connection.resume()

    def tighten(self, pressure: int) -> None:
        """Memory has become short, or is not any more."""
        self.pressure = pressure
        self.admission.tight = pressure != NONE
        if pressure == NONE:
            for connection in list(self.paused):
                connection.resume()

    def holdings(self) -> list[tuple[int, KafkaConnection]]:
        """Bytes that each connection of a client holds; not those of controllers."""
        return [
            (connection.held_bytes, connection)
            for connection in self.connections
            if connection.listener not in self._controller_listeners
        ]

    # -- limits --------------------------------------------------------------------------------------------------------

    def _refuse(self, host: str) -> None:
        self._refused += 1
        self._over_limit.value += 1
        now = self.now()
        if now - self._refusal_logged >= _REFUSALS_LOGGED_EVERY:
            self._refusal_logged = now
            logger.warning(
                "refused %d connection(s), the last one of %s: max.connections is %d, max.connections.per.ip %d",
                self._refused, host, self._most_connections, self._most_of_host.get(host, self._most_per_host),
            )  # fmt: skip
            self._refused = 0

    def _set_buffer_sizes(self, transport: asyncio.Transport) -> None:
        """Only if configured: a fixed size disables the kernel's automatic tuning, which is usually better."""
        import socket  # the names of two options; nothing is opened here

        own = transport.get_extra_info("socket")
        for key, option in (
            ("socket.send.buffer.bytes", socket.SO_SNDBUF),
            ("socket.receive.buffer.bytes", socket.SO_RCVBUF),
        ):
            if self._config.is_set(key) and own is not None and self._config.get_int(key) > 0:
                own.setsockopt(socket.SOL_SOCKET, option, self._config.get_int(key))

    def _schedule_sweep(self) -> None:
        interval = 5.0 if self._idle_seconds <= 0 else min(max(self._idle_seconds / 4, 0.1), 5.0)
        self._sweep = self.loop.call_later(interval, self._sweep_connections)

    def _sweep_connections(self) -> None:
        """Close idle connections, and shrink the buffers of slow ones."""
        now = self.now()
        for connection in self.admission.too_slow():
            logger.warning(
                "closing the connection of %s on listener %s: it sends a large request slowly, and others wait",
                connection.host, connection.listener,
            )  # fmt: skip
            connection.abort()
        for connection in list(self.connections):
            if self._idle_seconds > 0 and now - connection.last_active > self._idle_seconds and not connection.busy:
                logger.debug("closing the idle connection of %s on listener %s", connection.host, connection.listener)
                connection.abort()
            elif now - connection.last_active > 1.0:
                connection.shrink()
        self._schedule_sweep()

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _families(self) -> list[Family]:
        tally = Tally(connection.listener for connection in self.connections)
        samples = [((("listener", item.name),), float(tally[item.name])) for item in self._config.listeners]
        name = "kafka_server_socket_server_metrics_connection_count"
        return [Family(name, "gauge", "Open connections by listener.", samples)]


def _limits_by_host(config: BrokerConfig) -> dict[str, int]:
    key = "max.connections.per.ip.overrides"
    return {host: int(number) for host, number in parse_map(key, config.get_str(key)).items()}


async def bind(
    loop: asyncio.AbstractEventLoop, listener: Listener, connect: Any, *, backlog: int = 128, key: str
) -> tuple[list[asyncio.AbstractServer], int]:
    """Servers on every address that a listener's host stands for, not serving yet, and their common port.

    A name may stand for IPv4 and IPv6; one of them may be missing on this machine. Raises ListenError.
    """
    try:
        found = await loop.getaddrinfo(listener.host or None, listener.port, type=_STREAM, flags=_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot listen on {listener}: unknown host {listener.host}; change {key}") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    servers: list[asyncio.AbstractServer] = []
    port = listener.port
    missing: OSError | None = None
    for address in addresses:
        try:
            server = await loop.create_server(connect, address, port, backlog=backlog, start_serving=False)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(addresses) > 1:
                missing = error.with_traceback(None)
                continue
            for bound in servers:
                bound.close()
            raise _explain(listener, error, key) from error
        servers.append(server)
        port = port or server.sockets[0].getsockname()[1]
    if not servers:
        assert missing is not None
        raise _explain(listener, missing, key) from missing
    return servers, port


_STREAM = 1
"""socket.SOCK_STREAM."""
_PASSIVE = 1
"""socket.AI_PASSIVE: no host means every address."""


def _explain(listener: Listener, error: OSError, key: str) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            hint = f"the port is in use; stop what listens there (another broker?) or change {key}"
        case errno.EACCES | errno.EPERM:
            hint = f"no permission; ports below 1024 are reserved, change {key}"
        case errno.EADDRNOTAVAIL:
            hint = f"this machine has no such address; change {key} (advertised.listeners may still name it)"
        case _:
            hint = f"{error.strerror or error}; change {key}"
    return ListenError(f"cannot listen on {listener}: {hint}")
