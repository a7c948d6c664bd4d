"""An event loop with a virtual clock: whole clusters in one thread, the same run for the same seed.

`Simulation` holds the clock and everything that is due; each simulated machine has a `Host`, and each life of a host
has a `SimulatedLoop`, an asyncio event loop like any other to the code that runs on it. Time passes only when nothing
is left to do at an instant; then it jumps to the next thing that is due. A killed host's loop goes dead: nothing it
had planned happens, as if the process had got signal 9.

    simulation = Simulation(seed=7)
    broker = simulation.host("broker-1")
    client = simulation.host("client")
    simulation.run(client, talk_to("broker-1", 9092))

What makes runs repeatable: one thread, one heap of events ordered by time and then by the order of planning, and all
chance (network delays, executor delays, how a stream is cut into reads) from `Simulation.random`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
import random
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from broadsheet_broker.seams import Environment, Files
from tests.support.simulated_network import Network, SimulatedServer

T = TypeVar("T")

EPOCH_MS = 1_700_000_000_000
"""The wall clock when a simulation begins."""

_MOST_STEPS_AT_ONCE = 1_000_000


class SimulationStuck(Exception):
    """Nothing is left that could finish the run, or it does not come to rest at one instant."""


class Host:
    """A simulated machine. It runs one process at a time, which can be killed and started again."""

    def __init__(self, simulation: Simulation, name: str, address: str) -> None:
        self.simulation = simulation
        self.name = name
        self.address = address
        self.clock_skew_ms = 0
        """How far this host's wall clock is ahead."""
        self.disk_delay = (0.0001, 0.005)
        """Seconds, between which the duration of each blocking call (fsync, recovery) is chosen."""
        self.paused = False
        self.held: list[asyncio.Handle] = []
        """What was due while the process was paused."""
        self.loop = SimulatedLoop(self)
        """The loop of the process that runs now."""

    def environment(self, files: Files) -> Environment:
        """An environment for code that runs on this host. Files outlive the process; pass the same ones again."""
        chance = random.Random(self.simulation.random.random())
        return Environment(self.loop, HostClock(self), chance, files, timer=self.loop.time)

    def kill(self, *, silently: bool = False) -> None:
        """End the process at once, as kill -9 does: peers see a reset. Silently, as a loss of power: they do not."""
        self.loop.die()
        self.paused = False
        self.held.clear()
        self.simulation.network.host_died(self, silently=silently)
        self.loop = SimulatedLoop(self)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: time goes on, and so does its wall clock; what arrives waits."""
        self.paused = True

    def resume(self) -> None:
        """Let the process go on (SIGCONT): everything that was due meanwhile happens now, in its order."""
        if self.paused:
            self.paused = False
            held, self.held = self.held, []
            for handle in held:
                self.simulation.plan(self.simulation.time, handle)
            self.simulation.network.resumed(self)


class HostClock:
    """The wall clock of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def time_ms(self) -> int:
        return EPOCH_MS + int(self._host.simulation.time * 1000) + self._host.clock_skew_ms


class Simulation:
    """The world: time, what is due, hosts, the network between them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.time = 0.0
        """Seconds since the beginning."""
        self.steps = 0
        """Callbacks run so far."""
        self.hosts: dict[str, Host] = {}
        self.network = Network(self, Host(self, "wire", "").loop)
        self.unhandled: list[dict[str, Any]] = []
        """What ended up in an exception handler of a loop: `run` raises it."""
        self.touched: Host
        """Where the callback that runs does something: its own host, or the one that the network hands bytes to."""
        self.after_step: list[Callable[[Host], None]] = []
        """Called after every callback that ran, with the host that it touched: invariants, traces."""
        self.graveyard: list[object] = []
        """Tasks of killed processes, kept so that Python does not run their `finally` blocks."""
        self._due: list[tuple[float, int, asyncio.Handle]] = []
        self._planned = 0

    def host(self, name: str) -> Host:
        """The host of that name; made on first use."""
        if name not in self.hosts:
            self.hosts[name] = Host(self, name, f"10.0.0.{len(self.hosts) + 1}")
        return self.hosts[name]

    def end(self) -> None:
        """The world ends: every process is dead, and Python may clean up without anything happening."""
        for host in self.hosts.values():
            host.loop.die()

    def plan(self, when: float, handle: asyncio.Handle) -> None:
        """Run a handle at a time, after everything that was planned for that time before."""
        self._planned += 1
        heapq.heappush(self._due, (max(when, self.time), self._planned, handle))

    def run(self, host: Host, work: Coroutine[Any, Any, T], *, limit: float = 600.0) -> T:
        """Run a coroutine on a host until it is done, and return its result. `limit` is in virtual seconds."""
        with host.loop.running():
            task = host.loop.create_task(work)
        self._run_until(task.done, self.time + limit, f"{work!r} is not done after {limit} virtual seconds")
        return task.result()

    def run_for(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.time + seconds
        while self._due and self._due[0][0] <= end:
            self._step()
        self.time = end
        self._raise_unhandled()

    def _run_until(self, done: Callable[[], bool], deadline: float, complaint: str) -> None:
        instant, steps = self.time, 0
        while not done():
            if not self._due:
                raise SimulationStuck(f"seed {self.seed}: nothing is due any more, and {complaint}")
            if self._due[0][0] > deadline:
                raise SimulationStuck(f"seed {self.seed}: {complaint}")
            self._step()
            if self.unhandled:
                break
            steps = steps + 1 if self.time == instant else 0
            instant = self.time
            if steps > _MOST_STEPS_AT_ONCE:
                raise SimulationStuck(f"seed {self.seed}: time stands still at {instant}")
        self._raise_unhandled()

    def _step(self) -> None:
        when, _, handle = heapq.heappop(self._due)
        self.time = when
        if handle.cancelled():
            return
        loop: SimulatedLoop = handle._loop  # type: ignore[attr-defined]
        if loop.dead:
            return
        if loop.host.paused:
            loop.host.held.append(handle)
            return
        self.steps += 1
        self.touched = loop.host
        loop.run_handle(handle)
        for look in self.after_step:
            look(self.touched)

    def _raise_unhandled(self) -> None:
        if self.unhandled:
            context = self.unhandled.pop(0)
            raise RuntimeError(f"seed {self.seed}: {context.get('message')}") from context.get("exception")


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The event loop of one process on a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.dead = False
        self._simulation = host.simulation
        self._tasks: list[asyncio.Task[Any]] = []
        self._handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._closed = False

    # -- life ----------------------------------------------------------------------------------------------------------

    def running(self) -> _Running:
        """A context in which asyncio takes this loop for the running one."""
        return _Running(self)

    def die(self) -> None:
        """Nothing that was planned on this loop happens any more."""
        self.dead = True
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if _is_unborn(coroutine):
                _close_unborn(coroutine)
            self._simulation.graveyard.append(task)

    def run_handle(self, handle: asyncio.Handle) -> None:
        """Run one callback, as asyncio's loop would."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(before)

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def run_forever(self) -> None:
        raise NotImplementedError("use Simulation.run")

    def run_until_complete(self, future: Any) -> Any:
        raise NotImplementedError("use Simulation.run")

    def stop(self) -> None:
        raise NotImplementedError("use Simulation.run")

    async def shutdown_asyncgens(self) -> None:
        return

    async def shutdown_default_executor(self, *_: object) -> None:
        return

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        return

    # -- time ----------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._simulation.time

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._simulation.plan(self._simulation.time, handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._simulation.time + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._simulation.plan(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return

    # -- futures, tasks, threads ---------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > 1000:
            self._tasks = [other for other in self._tasks if not other.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run a blocking function some virtual milliseconds later: the order of several is chance."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self._simulation.random.uniform(*self.host.disk_delay), work)
        return future

    # -- failures ------------------------------------------------------------------------------------------------------

    def set_exception_handler(self, handler: Any) -> None:
        self._handler = handler

    def get_exception_handler(self) -> Any:
        return self._handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self._simulation.unhandled.append(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.dead:
            return
        if self._handler is not None:
            self._handler(self, context)
        else:
            self.default_exception_handler(context)

    # -- network -------------------------------------------------------------------------------------------------------

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        return [(2, 1, 6, "", (self._simulation.network.resolve(self.host, host), port or 0))]

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **options: Any
    ) -> SimulatedServer:
        server = self._simulation.network.listen(self, protocol_factory, host, port or 0)
        if options.get("start_serving", True):
            await server.start_serving()
        return server

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return await self._simulation.network.connect(self, protocol_factory, host, port)

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        return

    def remove_signal_handler(self, sig: int) -> bool:
        return False


class _Running:
    """What asyncio.get_running_loop() returns, for a while."""

    __slots__ = ("_before", "_loop")

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._before = events._get_running_loop()
        events._set_running_loop(self._loop)

    def __exit__(self, *_: object) -> None:
        events._set_running_loop(self._before)


def _is_unborn(coroutine: Any) -> bool:
    """Whether a coroutine never began. A compiled one does not say, and Python does not warn of it."""
    return hasattr(coroutine, "cr_running") and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED


def _close_unborn(coroutine: Any) -> None:
    """Close a coroutine that never began, with those it was to run: nothing happens, and Python does not warn."""
    for value in list(coroutine.cr_frame.f_locals.values()):
        if inspect.iscoroutine(value) and _is_unborn(value):
            _close_unborn(value)
    coroutine.close()
