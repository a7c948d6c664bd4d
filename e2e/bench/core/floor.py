"""`python -m e2e.bench.core.floor`: what this machine and Python allow at most, under the same load as the rows.

A server of a few lines stands where a broker would: it cuts requests from what it receives and answers each with the
bytes of a good answer, on the same event loop (uvloop, `BufferedProtocol`), and does nothing else. `frames` stops
there; `appends` also writes each request's batch to a file, with one pwritev for each read; `sends` answers a Fetch
with bytes of a file, by preadv into one buffer. How far a broker is from these is what it does for its users.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from e2e.bench.core.frames import BODY, Ring, fetch_ring, produce_ring
from e2e.bench.core.generator import Lane, Measured, Window, closed_loop
from e2e.bench.core.rows import GB, ONE, Row
from e2e.bench.core.sides import BUILD
from e2e.bench.core.surroundings import Surroundings

ROWS = ("p1", "p16k", "p64k", "f64k", "f1m")
SIZE = struct.Struct(">i")
ROOM = 4 << 20
TOPIC = "floor"
STORED = 512
"""Batches of a file that is read."""


class Floor(asyncio.BufferedProtocol):
    """Answers every request with the same bytes but the correlation id."""

    def __init__(self, answer: bytes, act: Callable[[list[memoryview]], None], sent: Callable[[], list[Any]]) -> None:
        self._answer = answer
        self._act, self._sent = act, sent
        self._view = memoryview(bytearray(ROOM))
        self._start = self._end = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        view, start, end = self._view, self._start, self._end
        answers: list[Any] = []
        frames: list[memoryview] = []
        while end - start >= 4:
            stop = start + 4 + SIZE.unpack_from(view, start)[0]
            if stop > end:
                break
            answers += [self._answer[:4], view[start + 8 : start + 12], self._answer[8:], *self._sent()]
            frames.append(view[start:stop])
            start = stop
        if frames:
            self._act(frames)
            if len(answers) > 3 * len(frames):
                self._transport.writelines([bytes(part) if len(part) < 16 else part for part in answers])
            else:
                self._transport.write(b"".join(answers))
        rest = end - start
        if ROOM - end < ROOM // 2:
            view[:rest] = view[start:end]
            start, end = 0, rest
        self._start, self._end = start, end


def _serve(ready: Any, ring_answer: bytes, mode: str, payload: int, directory: str) -> None:
    """The server's process."""
    file = os.open(Path(directory) / "floor.log", os.O_RDWR | os.O_CREAT)
    position = 0
    room = memoryview(bytearray(payload))

    def append(frames: list[memoryview]) -> None:
        nonlocal position
        for first in range(0, len(frames), 1024):
            os.pwritev(file, frames[first : first + 1024], position)
        position = (position + sum(map(len, frames))) % (256 << 20)  # stays in the page cache

    def read() -> list[Any]:
        nonlocal position
        os.preadv(file, [room], position)
        position = (position + payload) % (payload * 64)
        return [bytes(room) if payload < (64 << 10) else room]

    act = append if mode == "appends" else lambda frames: None
    sent = read if mode == "sends" else list
    if mode == "sends":
        for number in range(64):
            os.pwrite(file, bytes(payload), number * payload)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Floor(ring_answer, act, sent), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname())
        await server.serve_forever()

    uvloop.run(main())


def measure(row: Row, mode: str, seconds: float, directory: Path) -> tuple[Measured, Surroundings]:
    """A closed loop on the server, as `Prepared.saturation` on a broker."""
    batch = row.batch()
    ring: Ring
    if row.fetched:
        ring = fetch_ring(TOPIC, 0, batch, row.fetched, STORED)
    else:
        ring = produce_ring(TOPIC, 0, batch, "1")
    head = ring.answer.size - (ring.payload_bytes + BODY if mode == "sends" else 0)
    answer = SIZE.pack(ring.answer.size - 4) + bytes(head - 4)
    here, there = multiprocessing.Pipe()
    payload = ring.payload_bytes + BODY if mode == "sends" else 0
    process = multiprocessing.Process(target=_serve, args=(there, answer, mode, payload, str(directory)), daemon=True)
    process.start()
    try:
        address = here.recv()
        assert process.pid is not None
        around = Surroundings([process.pid])
        lanes = [Lane(address, ring) for _ in range(row.connections)]
        measured = closed_loop(lanes, row.depth, Window(0.3, seconds, float("inf"), around.open, around.close))
        for lane in lanes:
            lane.close()
        return measured, around
    finally:
        process.kill()
        process.join()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.core.floor", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of {', '.join(ROWS)} (all)")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    print("| what | mode | requests/s | MB/s | CPU, µs a request | CPU, s per GB |\n| --- | --- | " + "---: | " * 4)
    for row in ONE:
        if row.key not in (options.rows or ROWS):
            continue
        for mode in ("sends",) if row.fetched else ("frames", "appends"):
            best = (0.0, 0.0, 0.0, 0.0)
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory(dir=BUILD) as directory:
                    measured, around = measure(row, mode, options.seconds, Path(directory))
                rate, taken = measured.answers / measured.seconds, measured.payload_bytes
                cpu = around.brokers_cpu_s
                best = max(best, (rate, taken / measured.seconds / 1e6, cpu / measured.answers * 1e6, cpu / taken * GB))
            print(f"| {row.title} | {mode} | {best[0]:,.0f} | {best[1]:,.0f} | {best[2]:.2f} | {best[3]:.3f} |")
    return 0


if __name__ == "__main__":
    main()
