"""Build or fetch what the tests of clients and tools run, before workers do so at the same time.

    python -m e2e.prepare

Everything is kept by version under ~/.cache/broadsheet; when it is there this takes seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from e2e.apache.agent import agent_jar
from e2e.apache.apache import jars
from e2e.clients.programs import NAMES, programs
from e2e.kgo.suite import binary
from e2e.kstatus.program import binary as kstatus


def main() -> None:
    makes: dict[str, Callable[[], object]] = {
        "Apache Kafka": jars,
        "JMX agent": agent_jar,
        **{f"client {name}": lambda name=name: programs(name) for name in NAMES},  # type: ignore[misc]
        "franz-go's suite": binary,
        "kstatus": kstatus,
    }
    for name, make in makes.items():
        began = time.monotonic()
        make()
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
