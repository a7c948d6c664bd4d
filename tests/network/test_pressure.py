"""What a broker does when its memory is short: the decisions, and that they are carried out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from broadsheet_broker.apis.request import Request
from broadsheet_broker.network.memory_guard import MemoryGuard
from broadsheet_broker.network.pressure import NONE, SHEDDING, TIGHT, Pressure, request_bytes, target_of
from broadsheet_broker.seams import Environment
from broadsheet_broker.seams.memory import memory_limit
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.heartbeat_response import HeartbeatResponse
from tests.network.support import HEARTBEAT, Run, serve
from tests.support.memory_files import MemoryFiles
from tests.support.network import Client, api, frame
from tests.support.waiting import until

MIB = 1024 * 1024


def test_levels_follow_the_size_of_the_process_and_do_not_flap() -> None:
    pressure = Pressure(100 * MIB)
    levels = []
    for size in (50, 99, 100, 99, 96, 94, 99, 105, 111, 105, 99, 94, 115):
        pressure.update(size * MIB)
        levels.append(pressure.level)
    assert levels == [
        NONE, NONE, TIGHT, TIGHT, TIGHT, NONE, NONE, TIGHT, SHEDDING, SHEDDING, TIGHT, NONE, SHEDDING,
    ]  # fmt: skip


def test_without_a_target_nothing_is_ever_short() -> None:
    pressure = Pressure(0)
    assert not pressure.update(10**12)
    assert pressure.level == NONE


def test_those_that_hold_the_most_go_and_no_more_than_need_be() -> None:
    pressure = Pressure(100 * MIB)
    holding = [(3 * MIB, "c"), (60 * MIB, "a"), (1000, "small"), (30 * MIB, "b")]
    assert pressure.victims(150 * MIB, holding) == [(60 * MIB, "a")]
    assert pressure.victims(180 * MIB, holding) == [(60 * MIB, "a"), (30 * MIB, "b")]
    assert pressure.victims(900 * MIB, holding) == [(60 * MIB, "a"), (30 * MIB, "b"), (3 * MIB, "c")]


def test_targets_come_from_the_configuration_or_the_cgroup() -> None:
    assert target_of(1000) == 800
    assert target_of(None) == 0
    assert request_bytes(-1, 0, 100) == 0
    assert request_bytes(-1, 1000, 100) == 333
    assert request_bytes(-1, 150, 100) == 100
    assert request_bytes(200, 0, 100) == 200


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/\n", {"/sys/fs/cgroup/memory.max": "536870912\n"}, 536870912),
        ("0::/\n", {"/sys/fs/cgroup/memory.max": "max\n"}, None),
        ("0::/\n", {}, None),
        (
            "0::/kubepods/pod1/c1\n",
            {"/sys/fs/cgroup/kubepods/pod1/memory.max": "1000000", "/sys/fs/cgroup/kubepods/pod1/c1/memory.max": "max"},
            1000000,
        ),
        ("0::/../../outside\n", {"/sys/fs/cgroup/memory.max": "7000000"}, 7000000),
        (
            "11:cpu,cpuacct:/d\n9:memory:/docker/abc\n0::/\n",
            {"/sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"},
            268435456,
        ),
        ("9:memory:/\n", {"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_limit_of_a_cgroup(cgroup: str, limits: dict[str, str], expected: int | None) -> None:
    files = MemoryFiles()
    for path, text in {"/proc/self/cgroup": cgroup, **limits}.items():
        files.make_directory(path.rpartition("/")[0])
        files.open(path, create=True).append([text.encode()])
    assert memory_limit(files) == expected


def test_a_machine_without_cgroups_has_no_limit() -> None:
    assert memory_limit(MemoryFiles()) is None


def test_a_broker_whose_memory_is_short_reads_little_and_then_closes_connections(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    waiting: list[Request[Any]] = []
    size = 50 * MIB

    async def work() -> None:
        server, hoarder = await serve(api(HEARTBEAT, lambda _, request: waiting.append(request)))
        guard = MemoryGuard(server, Environment(asyncio.get_running_loop()), 100 * MIB, lambda: size)
        big = frame(HEARTBEAT, 4, 1, HeartbeatRequest(group_id="g" * 30_000))
        hoarder.send(big * 20)
        await until(lambda: len(waiting) == 20)
        guard.look()
        modest = await Client.connect(server.bound_ports["PLAINTEXT"])
        grow(101)
        guard.look()
        for client in (hoarder, modest):
            client.send(frame(HEARTBEAT, 4, 2, HeartbeatRequest()) * 2)
        await until(lambda: len(server.paused) == 2)
        assert len(waiting) == 21, "one request of a connection at a time"
        grow(120)
        guard.look()
        assert await hoarder.ended()
        await until(lambda: len(server.connections) == 1)
        late = await Client.connect(server.bound_ports["PLAINTEXT"])
        assert await late.ended()
        grow(60)
        guard.look()
        await until(lambda: len(waiting) == 22)
        for request in waiting[-2:]:
            request.answer(HeartbeatResponse())
        await modest.receive()
        await modest.receive()
        await modest.close()
        await server.stop()

    def grow(mib: int) -> None:
        nonlocal size
        size = mib * MIB

    with caplog.at_level(logging.INFO):
        run(work())
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("memory:")]
    assert [line.partition(" on listener")[0] for line in lines] == [
        "memory: 101 MiB are in use, the target is 100 MiB (broadsheet.memory.target): little is read from clients",
        "memory: 120 MiB are in use, the target is 100 MiB (broadsheet.memory.target): connections are closed",
        "memory: closing the connection of 127.0.0.1",
        "memory: 60 MiB are in use, and clients are served as usual",
    ]
