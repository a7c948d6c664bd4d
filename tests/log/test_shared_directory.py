"""One log directory is used by one process, whichever program that is."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from broadsheet_broker.seams.files import LocalFiles

OTHER_PROCESS = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.{how}(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit("refused")
print("held", flush=True)
sys.stdin.read()
"""
"""`lockf` takes the lock that Java's FileChannel.tryLock takes."""


@pytest.mark.parametrize("how", ["lockf", "flock"])
def test_apache_kafka_and_this_broker_do_not_use_one_directory_together(how: str, tmp_path: Path) -> None:
    """Java's locks are of another kind than flock's: each program held its own, and both wrote."""
    path = tmp_path / ".lock"
    path.touch()
    other = [sys.executable, "-c", OTHER_PROCESS.format(how=how), str(path)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert LocalFiles().lock(str(path)) is None
        process.communicate(b"")
    held = LocalFiles().lock(str(path))
    assert isinstance(held, io.IOBase)
    with held:
        assert LocalFiles().lock(str(path)) is None, "the first one keeps it"
        assert b"refused" in subprocess.run(other, input=b"", capture_output=True, check=False).stderr
