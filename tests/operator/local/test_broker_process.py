"""A broker as a child process, with a stand-in for the broker."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broadsheet_operator.local.broker import (
    BrokerProcess,
    free_port,
    port_in_use,
)
from tests.support.waiting import wait_until

REST = "print('started', flush=True); time.sleep(60)"
SLEEPER = f"import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(0)); {REST}"
STUBBORN = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {REST}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[[str], BrokerProcess]]:
    made: list[BrokerProcess] = []

    def make(code: str) -> BrokerProcess:
        process = BrokerProcess(tmp_path, 0, ("localhost", 1), lambda _: [sys.executable, "-c", code])
        process.start({"node.id": "0"})
        made.append(process)
        return process

    yield make
    for process in made:
        process.terminate()
        process.wait(0)


def test_it_stops_when_asked(broker: Callable[[str], BrokerProcess]) -> None:
    process = broker(SLEEPER)
    wait_until(lambda: process.last_words() == "started")
    process.terminate()
    assert process.wait(10)
    assert process.state(ready=False).state == "Stopped"


def test_it_is_killed_when_it_does_not_listen(broker: Callable[[str], BrokerProcess]) -> None:
    process = broker(STUBBORN)
    wait_until(lambda: process.last_words() == "started")
    process.terminate()
    assert not process.wait(0.05)


def test_a_dead_broker_comes_back_and_says_so(broker: Callable[[str], BrokerProcess]) -> None:
    process = broker(SLEEPER)
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    heard: list[str] = []

    def back() -> bool:
        heard.extend(filter(None, [process.look()]))
        return process.pid not in (None, first)

    wait_until(back)
    assert heard[0].startswith("broker 0 was killed by SIGKILL")
    assert "started again in 0.5 s" in heard[0]
    assert heard[-1] == "broker 0 is started again"


def test_its_last_words_are_told(broker: Callable[[str], BrokerProcess]) -> None:
    process = broker("import sys; sys.exit('log.dirs: there is no such directory')")
    heard: list[str] = []

    def dead() -> bool:
        heard.extend(filter(None, [process.look()]))
        return bool(heard)

    wait_until(dead)
    assert "broker 0 ended with code 1: log.dirs: there is no such directory" in heard[0]
    assert process.state(ready=False).state == "Restarting"


def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    """Even `kill -9` of `broadsheet up` leaves no broker behind."""
    import subprocess

    code = f"""
import sys, time
from pathlib import Path
from broadsheet_operator.local.broker import BrokerProcess
b = BrokerProcess(Path({str(tmp_path)!r}), 0, ("localhost", 1), lambda _: [sys.executable, "-c", {SLEEPER!r}])
b.start({{}})
print(b.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone)


def test_a_port_that_is_taken_is_noticed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert port_in_use(taken.getsockname()[1])
    assert not port_in_use(free_port())
