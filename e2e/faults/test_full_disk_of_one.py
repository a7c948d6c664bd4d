"""The disk of one of three brokers fills up under load and becomes free again: real ENOSPC on a small file system."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.brokers import Brokers
from e2e.faults.load import Load
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

TOPIC, PARTITIONS = "orders", 6
OFFSETS = "__consumer_offsets"
SIZE = 256 * 1024 * 1024
FREE = 256 * 1024


class SmallDisk:
    """A tmpfs for a broker's log directory, in a mount namespace that lives as long as a process that sleeps in it."""

    def __init__(self, broker: BrokerProcess) -> None:
        broker.log_dir.mkdir(parents=True, exist_ok=True)
        mount = f'mount -t tmpfs -o size={SIZE} none "$0" && exec sleep infinity'
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

    def fill(self) -> None:
        """Leave little room; the broker takes some meanwhile, so that the whole rest may be too much to ask for."""
        with (self.root / "ballast").open("wb") as ballast:

            def filled() -> bool:
                disk = os.statvfs(self.root)
                try:
                    os.posix_fallocate(ballast.fileno(), 0, disk.f_bavail * disk.f_frsize - FREE)
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


@pytest.fixture
def disks() -> Iterator[dict[int, SmallDisk]]:
    """The disk of each broker, given back at the end."""
    made: dict[int, SmallDisk] = {}
    yield made
    for disk in made.values():
        disk.close()


@pytest.mark.parametrize("role", ["the active controller", "a leader"])
def test_a_disk_fills_up_and_becomes_free(
    kind: Callable[[Path], BrokerProcess], tmp_path: Path, role: str, disks: dict[int, SmallDisk]
) -> None:
    """Others lead at once: a leader steps aside, a controller without room for its log ends (who runs it starts it)."""

    def prepare(broker: BrokerProcess) -> None:
        disks[broker.node_id] = SmallDisk(broker)

    with Brokers(kind, tmp_path, prepare=prepare) as cluster:
        cluster.create(TOPIC, PARTITIONS)
        with Load(cluster.bootstrap, TOPIC, PARTITIONS, padding=2000) as load:
            load.wait_served(time.monotonic())
            cluster.wait_whole(TOPIC, OFFSETS)
            controller = cluster.controller()
            victim = controller
            if role == "a leader":
                victim = next(
                    state.leader for state in cluster.partitions(TOPIC).values() if state.leader != controller
                )
            began = time.monotonic()
            disks[victim].fill()
            wait_until(lambda: "No space left" in cluster[victim].output_since_start(), "the disk to be full")
            full = time.monotonic()
            served = load.wait_served(full)
            stayed = cluster[victim].running
            disks[victim].free()
            cluster.start()
            again = time.monotonic()
            cluster.wait_whole(TOPIC, OFFSETS)
            whole = time.monotonic() - again
            load.wait_served(time.monotonic())
        told = load.verify()
    print(
        f"{role} ran out of space: {'it stayed' if stayed else 'it ended'}; every partition took a record "
        f"{max(served.values()):.2f} s after that (longest gap {load.longest_gap(began, again):.2f} s); "
        f"whole {whole:.2f} s after there was space; {told}"
    )
