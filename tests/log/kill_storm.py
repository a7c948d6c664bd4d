"""Kill a writing process again and again, and look whether everything it acknowledged is there.

    python -m tests.log.kill_storm DIRECTORY KILLS SEED

Each life of the writer is a child process that opens the logs (which recovers them), appends, and acknowledges through
a pipe what `flush_appends` has written. The parent kills it with SIGKILL at a moment that the seed and the scheduler
choose, opens the logs itself and compares. Exit code 0: nothing acknowledged was lost, nothing else is there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import struct
import sys
import time

from broadsheet_broker.log import Log, LogConfig
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.records import build_batch, decode_records, iterate_batches

PARTITIONS = 2
CONFIG = LogConfig(segment_bytes=64 * 1024, index_interval_bytes=1024)
ACKNOWLEDGED = struct.Struct(">iqi")
"""Partition, offset, number: one record that was acknowledged."""


def open_logs(directory: str) -> list[Log]:
    environment = Environment(asyncio.new_event_loop())
    return [Log.open(environment, f"{directory}/storm-{n}", config=CONFIG) for n in range(PARTITIONS)]


def value_of(number: int) -> bytes:
    return str(number).encode() + b"." * (number * 7919 % 1000)


def write(directory: str, seed: int, pipe: int) -> None:
    """The life of a writer; ends with its death."""
    chance = random.Random(seed)
    logs = open_logs(directory)
    number = max(log.log_end_offset for log in logs) * 100
    while True:
        log = chance.choice(logs)
        acknowledgements = b""
        for _ in range(chance.randint(1, 4)):
            count = chance.randint(1, 3)
            now_ms = time.time_ns() // 1_000_000
            numbers = [number + 1 + at for at in range(count)]
            number += count
            rows = [(now_ms, b"k", value_of(each), []) for each in numbers]
            info = log.append_as_leader(memoryview(build_batch(rows, compression=chance.choice((0, 0, 4)))), 0, now_ms)
            for at, each in enumerate(numbers):
                acknowledgements += ACKNOWLEDGED.pack(log.partition, info.first_offset + at, each)
        log.flush_appends()
        os.write(pipe, acknowledgements)


def live_and_die(directory: str, seed: int) -> list[tuple[int, int, int]]:
    """What one writer acknowledged before it was killed."""
    chance = random.Random(seed)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            write(directory, seed, theirs)
        finally:
            os._exit(1)
    os.close(theirs)
    wanted = chance.randint(1, 30) * ACKNOWLEDGED.size
    data = b""
    while len(data) < wanted:
        part = os.read(ours, 65536)
        if not part:
            raise SystemExit("the writer ended by itself")
        data += part
    if chance.random() < 0.5:
        time.sleep(chance.random() * 0.002)
    os.kill(child, signal.SIGKILL)
    while part := os.read(ours, 65536):
        data += part
    os.close(ours)
    os.waitpid(child, 0)
    whole = len(data) - len(data) % ACKNOWLEDGED.size
    return list(ACKNOWLEDGED.iter_unpack(data[:whole]))


def records_from(log: Log, offset: int) -> dict[int, bytes | None]:
    found: dict[int, bytes | None] = {}
    while offset < log.log_end_offset:
        fetched = log.read(offset, 1_000_000)
        for _, part in iterate_batches(fetched.data):
            found.update((record.offset, record.value) for record in decode_records(part))
        offset = fetched.next_offset
    return found


def main(directory: str, kills: int, seed: int) -> None:
    os.makedirs(directory, exist_ok=True)
    chance = random.Random(seed)
    everything: dict[tuple[int, int], int] = {}
    checked = [0] * PARTITIONS
    for life in range(kills):
        acknowledged = live_and_die(directory, chance.getrandbits(32))
        everything.update(((partition, offset), number) for partition, offset, number in acknowledged)
        logs = open_logs(directory)
        there = [records_from(log, checked[log.partition]) for log in logs]
        for partition, offset, number in acknowledged:
            if there[partition].get(offset) != value_of(number):
                raise SystemExit(f"life {life}: record {number}, acknowledged at {partition}/{offset}, is not there")
        for log in logs:
            if sorted(there[log.partition])[-1:] not in ([], [log.log_end_offset - 1]):
                raise SystemExit(f"life {life}: partition {log.partition} does not end where it says")
            checked[log.partition] = log.log_end_offset
            log.close_files()
    final = [records_from(log, 0) for log in open_logs(directory)]
    for (partition, offset), number in everything.items():
        if final[partition].get(offset) != value_of(number):
            raise SystemExit(f"in the end, record {number} at {partition}/{offset} is not there")
    print(f"{kills} kills, {len(everything)} acknowledged records, all there")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
