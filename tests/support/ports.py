"""TCP ports of the loopback interface for processes that tests start.

A port belongs to the process that asked for it until that process ends, also while nobody listens on it: a broker
that a test has killed must find its port again, and its clients must not find the broker of another test there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

FIRST, LAST = 20_000, 32_000
"""Below the range from which Linux takes the local ports of outgoing connections: none of them can be lost to one."""

_given: set[int] = set()
_locks: list[int] = []
"""The descriptor of the file whose byte N is locked by the process that port N belongs to. Never closed: a process that
closes it loses its locks (fcntl(2))."""
_places = random.SystemRandom()
"""Of the operating system, and not seeded: workers that run beside each other look in different places."""


def free_ports(count: int) -> list[int]:
    """Ports in a row on which nobody listens, and that were given to no process that still runs."""
    while True:
        first = _places.randrange(FIRST, LAST - count)
        ports = list(range(first, first + count))
        if _given.isdisjoint(ports) and all(map(_is_ours, ports)) and all(map(_is_free, ports)):
            _given.update(ports)
            return ports


def free_port() -> int:
    return free_ports(1)[0]


def _is_ours(port: int) -> bool:
    """Whether no other process of this user has it; from now on it is ours."""
    if not _locks:
        path = Path(tempfile.gettempdir()) / f"broadsheet-test-ports-{os.getuid()}"
        _locks.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        fcntl.lockf(_locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


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
