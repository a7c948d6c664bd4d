"""One operator with many Clusters and Topics: etcd and an API server without nodes, a real broker for each Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import aiohttp

from e2e.apiserver.operators import OperatorProcess
from e2e.apiserver.server import TOKEN, ApiServer
from e2e.apiserver.server import Api as Blocking
from e2e.bench.gauges import PeakMemory, cpu_seconds, idle_cpu, resident_mb
from e2e.operator.measure import Api
from e2e.soak.test_rest import changes, settle
from tests.support.broadsheet import Broadsheet
from tests.support.waiting import wait_until

CLUSTERS = 20
STEPS = (1_000, 3_000, 10_000)
"""Topics in all."""
AT_ONCE = 20
"""Requests that the API server has at a time."""
REST_SECONDS = 75.0
"""Everything is reconciled again within 66 s."""
Row = dict[str, float]
Say = Callable[[str], None]


def run(less: int, say: Say) -> list[Row]:
    """A row for each number of Topics, and the last one again with a new operator that finds them all."""
    clusters, steps = max(2, CLUSTERS // less), [step // less for step in STEPS]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e2e-scale-")))
        server = stack.enter_context(ApiServer())
        brokers = [stack.enter_context(Broadsheet()) for _ in range(clusters)]
        say(f"{clusters} brokers run")
        places = [f"paper-{number}" for number in range(clusters)]
        operator = _operator(server, folder, "one")
        stack.callback(lambda: operator.stop())
        for place, broker in zip(places, brokers, strict=True):
            _declare(server, place, broker)
        rows = []
        for topics in steps:
            rows.append(_step(server, operator, places, topics, say))
        operator.stop()
        operator = _operator(server, folder, "two")
        rows.append(_restart(server, operator, steps[-1], say))
        return rows


def _operator(server: ApiServer, folder: Path, name: str) -> OperatorProcess:
    operator = OperatorProcess(server, folder, name, "--lease-namespace=default").start()
    wait_until(lambda: operator.leads, "the operator to lead", 60)
    return operator


def _declare(server: ApiServer, place: str, broker: Broadsheet) -> None:
    admin = Blocking(server)
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}})
    api = Blocking(server, place)
    api.resource("Cluster", "press", {"external": {"bootstrapServers": [broker.bootstrap]}})
    api.ready("Cluster", "press", 60)


def _step(server: ApiServer, operator: OperatorProcess, places: Sequence[str], topics: int, say: Say) -> Row:
    """Create what is missing up to so many Topics, wait until all are Ready, and then watch an operator at rest."""
    pid = operator.pid
    cpu = cpu_seconds(pid)
    with PeakMemory(pid) as peak:
        made, applied, ready = asyncio.run(_create(server, places, topics))
    used = cpu_seconds(pid) - cpu
    settle(server)
    written = len(changes(server))
    idle = idle_cpu([pid], REST_SECONDS)
    row = {
        "topics": topics,
        "applied_s": applied,
        "ready_after_s": ready,
        "cpu_ms_a_topic": used / made * 1000,
        "peak_mb": peak.mb,
        "rest_mb": resident_mb(pid),
        "rest_cpu": idle,
        "rest_writes": len(changes(server)) - written,
    }
    say(f"{topics} Topics: " + ", ".join(f"{key} {value:,.1f}" for key, value in row.items() if key != "topics"))
    return row


def _restart(server: ApiServer, operator: OperatorProcess, topics: int, say: Say) -> Row:
    """A new operator finds everything as it should be: how long it works on that, and what it writes."""
    written, pid = len(changes(server)), operator.pid
    settle(server)
    idle = idle_cpu([pid], REST_SECONDS)
    row = {
        "topics": topics,
        "applied_s": 0.0,
        "ready_after_s": 0.0,
        "cpu_ms_a_topic": cpu_seconds(pid) / topics * 1000,
        "peak_mb": resident_mb(pid),
        "rest_mb": resident_mb(pid),
        "rest_cpu": idle,
        "rest_writes": len(changes(server)) - written,
    }
    say(f"{topics} Topics, a new operator: " + ", ".join(f"{key} {value:,.1f}" for key, value in row.items()))
    return row


async def _create(server: ApiServer, places: Sequence[str], topics: int) -> tuple[int, float, float]:
    """How many were made, the seconds until the last was applied, and from then until all were Ready."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=context)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        api = Api(session, server.url)
        started = [asyncio.Event() for _ in places]
        watches = [
            asyncio.ensure_future(api.watch(place, "topics", event))
            for place, event in zip(places, started, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in started))
        there = len(api.ready)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(place: str, name: str) -> None:
            async with gate:
                await api.create(place, "topics", "Topic", name, {"cluster": "press", "partitions": 1})

        new = dict(_names(places, there, topics))
        begun = time.perf_counter()
        await asyncio.gather(*(one(place, name) for name, place in new.items()))
        applied = time.perf_counter()
        deadline = applied + 600
        while not new.keys() <= api.ready.keys():
            assert time.perf_counter() < deadline, f"{len(new.keys() - api.ready.keys())} Topics are not Ready"
            await asyncio.sleep(0.05)
        last = max(api.ready[name] for name in new)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
    return len(new), applied - begun, max(0.0, last - applied)


def _names(places: Sequence[str], there: int, topics: int) -> Iterator[tuple[str, str]]:
    for number in range(there, topics):
        yield f"topic-{number}", places[number % len(places)]
