"""A small disk for a broker, to be filled: real ENOSPC."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

SIZE = 256 * 1024 * 1024
FREE = 256 * 1024


class SmallDisk:
    """A tmpfs for a broker's log directory, in a mount namespace that lives as long as a process that sleeps in it."""

    def __init__(self, broker: BrokerProcess, size: int = SIZE) -> None:
        broker.log_dir.mkdir(parents=True, exist_ok=True)
        mount = f'mount -t tmpfs -o size={size} none "$0" && exec sleep infinity'
        self.size = size
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", mount, str(broker.log_dir)]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        process = Path(f"/proc/{self._holder.pid}")
        wait_until(
            lambda: self._holder.poll() is not None or (process / "cmdline").read_bytes().startswith(b"sleep"),
            "a small disk (needs root)",
        )
        assert self._holder.poll() is None, "a mount namespace cannot be made: this test needs root"
        self.root = process / "root" / broker.log_dir.relative_to("/")
        """The disk, as seen from outside."""
        broker.inside = ["nsenter", f"--mount={process / 'ns' / 'mnt'}", "--"]

    def fill(self, free: int = FREE) -> None:
        """Leave this many bytes; the broker takes some meanwhile, so that the whole rest may be too much to ask for."""
        with (self.root / "ballast").open("wb") as ballast:

            def filled() -> bool:
                disk = os.statvfs(self.root)
                try:
                    os.posix_fallocate(ballast.fileno(), 0, disk.f_bavail * disk.f_frsize - free)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return False
                return True

            wait_until(filled, "room to be taken")

    def free(self) -> None:
        (self.root / "ballast").unlink()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
