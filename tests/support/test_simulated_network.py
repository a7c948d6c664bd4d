"""Streams between simulated hosts: like TCP's, and broken on request."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from tests.support.simulated_loop import Host, Simulation

Simulate = Callable[[int], Simulation]


def pair(simulate: Simulate, seed: int = 1) -> tuple[Simulation, Host, Host]:
    simulation = simulate(seed)
    return simulation, simulation.host("server"), simulation.host("client")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    writer.close()


async def listen(port: int = 9092) -> None:
    await asyncio.start_server(echo, None, port)


@pytest.mark.parametrize("seed", range(10))
def test_bytes_arrive_in_order_and_whole(simulate: Simulate, seed: int) -> None:
    simulation, server, client = pair(simulate, seed)
    data = bytes(range(256)) * 8000

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("server", 9092)

        async def send() -> None:
            for start in range(0, len(data), 30_000):
                writer.write(data[start : start + 30_000])
                await writer.drain()
            writer.write_eof()

        task = asyncio.create_task(send())
        received = await reader.read()
        await task
        writer.close()
        return received

    simulation.run(server, listen())
    assert simulation.run(client, talk()) == data


def test_nobody_listening_is_refused_and_a_port_is_taken_once(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)
    with pytest.raises(ConnectionRefusedError):
        simulation.run(client, asyncio.open_connection("server", 9092))
    simulation.run(server, listen())
    with pytest.raises(OSError) as caught:
        simulation.run(server, listen())
    assert caught.value.errno == errno.EADDRINUSE
    simulation.run(client, listen())
    with pytest.raises(OSError, match="no such host"):
        simulation.run(client, asyncio.open_connection("nowhere", 9092))


def test_a_reader_that_does_not_read_makes_the_writer_wait(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(100)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await reader.read()
        writer.close()

    async def serve() -> None:
        await asyncio.start_server(ignore, None, 9092)

    async def flood() -> float:
        _, writer = await asyncio.open_connection("server", 9092)
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            writer.write(bytes(10_000))
            await writer.drain()
        passed = asyncio.get_running_loop().time() - began
        writer.close()
        return passed

    simulation.run(server, serve())
    assert simulation.run(client, flood()) > 99


def test_a_partition_delays_until_it_heals(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)
    simulation.run(server, listen())

    async def talk() -> float:
        reader, writer = await asyncio.open_connection("server", 9092)
        loop = asyncio.get_running_loop()
        simulation.network.partition([server], [client])
        loop.call_later(30, simulation.network.heal)
        began = loop.time()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        return loop.time() - began

    assert 30 < simulation.run(client, talk()) < 33


def test_connecting_through_a_partition_times_out(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)
    simulation.run(server, listen())
    simulation.network.partition([server], [client])
    with pytest.raises(OSError) as caught:
        simulation.run(client, asyncio.open_connection("server", 9092))
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_cut_works_in_one_direction_only(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)
    received: list[bytes] = []

    async def listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readexactly(5))
        writer.write(b"thank you")
        writer.close()

    async def serve() -> None:
        await asyncio.start_server(listen_only, None, 9092)

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("server", 9092)
        simulation.network.cut(server, client)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(9), 60)
        simulation.network.heal()
        answer = await reader.readexactly(9)
        writer.close()
        return answer

    simulation.run(server, serve())
    assert simulation.run(client, talk()) == b"thank you"
    assert received == [b"hello"]


@pytest.mark.parametrize("silently", [False, True])
def test_a_dead_process_resets_its_connections_and_a_dead_machine_is_silent(simulate: Simulate, silently: bool) -> None:
    simulation, server, client = pair(simulate)
    simulation.run(server, listen())

    async def talk() -> str:
        reader, writer = await asyncio.open_connection("server", 9092)
        writer.write(b"hello")
        await reader.readexactly(5)
        server.kill(silently=silently)
        try:
            return repr(await asyncio.wait_for(reader.read(1), 60))
        except (ConnectionResetError, TimeoutError) as error:
            return type(error).__name__
        finally:
            writer.close()

    assert simulation.run(client, talk()) == ("TimeoutError" if silently else "ConnectionResetError")
    if not silently:
        with pytest.raises(ConnectionRefusedError):
            simulation.run(client, asyncio.open_connection("server", 9092))
        simulation.run(server, listen())
        _, writer = simulation.run(client, asyncio.open_connection("server", 9092))
        writer.close()


def test_after_power_comes_back_old_connections_are_reset(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)
    simulation.run(server, listen())

    async def talk() -> None:
        reader, writer = await asyncio.open_connection("server", 9092)
        server.kill(silently=True)
        simulation.network.power_on(server)
        writer.write(b"anybody there?")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()

    simulation.run(client, talk())


def test_connections_can_be_dropped(simulate: Simulate) -> None:
    simulation, server, client = pair(simulate)
    simulation.run(server, listen())

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("server", 9092)
        simulation.network.drop_connections(server, client)
        answer = await reader.read(1)
        writer.close()
        return answer

    assert simulation.run(client, talk()) == b""
