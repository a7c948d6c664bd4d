"""Ports for tests."""

from __future__ import annotations

import subprocess
import sys

from tests.support.ports import free_port

ASK = "import sys; from tests.support import ports; print(ports._is_ours(int(sys.argv[1])))"


def _another_process_gets(port: int) -> bool:
    answer = subprocess.run([sys.executable, "-c", ASK, str(port)], capture_output=True, text=True, check=True)
    return answer.stdout.strip() == "True"


def test_the_port_of_a_killed_broker_is_given_to_no_other_test() -> None:
    """Its clients would go on with a broker that knows nothing of them: a false loss, or a sequence out of order."""
    port = free_port()
    assert not _another_process_gets(port)


def test_a_port_is_free_again_when_its_process_has_ended() -> None:
    code = "from tests.support.ports import free_port; print(free_port())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert _another_process_gets(int(ended.stdout))
