"""TCP ports of the loopback interface for processes that tests start."""

from __future__ import annotations

import contextlib
import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below the range from which Linux takes the local ports of outgoing connections: none of them can be lost to one."""

_given: set[int] = set()
_places = random.SystemRandom()
"""Of the operating system, and not seeded: workers that run beside each other look in different places."""


def free_ports(count: int) -> list[int]:
    """Ports in a row on which nobody listens, and that were not given before."""
    while True:
        first = _places.randrange(FIRST, LAST - count)
        ports = list(range(first, first + count))
        if _given.isdisjoint(ports) and all(map(_is_free, ports)):
            _given.update(ports)
            return ports


def free_port() -> int:
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
