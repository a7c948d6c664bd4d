"""A client that sends rubbish."""

from __future__ import annotations

import asyncio
from random import Random

from tests.simulation.clients.connection import PROBLEMS

_MOST_BYTES = 200


async def send_rubbish(address: tuple[str, int], random: Random) -> None:
    """Connect, write bytes that are no request, or half of one, and go without a word."""
    try:
        _, writer = await asyncio.open_connection(*address)
    except PROBLEMS:
        return
    kind = random.randrange(4)
    body = random.randbytes(random.randint(1, _MOST_BYTES))
    if kind == 0:
        writer.write(body)
    elif kind == 1:  # a frame of the right length
        writer.write(len(body).to_bytes(4, "big") + body)
    elif kind == 2:  # a sound header of a real API, then rubbish
        header = random.choice((0, 1, 2, 3, 8, 9, 10, 11, 14, 18, 19, 22)).to_bytes(2, "big") + b"\0\4\0\0\0\1\0\1x"
        writer.write((len(header) + len(body)).to_bytes(4, "big") + header + body)
    else:  # a frame that never comes to its end
        writer.write((len(body) + 1).to_bytes(4, "big") + body)
    await asyncio.sleep(random.uniform(0, 0.5))
    writer.transport.abort()
