"""A network of its own for each broker, on a bridge, so that any of them can be cut off: needs root on Linux.

    with Network(3) as network:
        cluster = Brokers(Broadsheet, prepare=network.place)
        network.cut(1, 2)      # nothing that 1 sends comes to 2
        network.heal()

Each network namespace lives as long as a process that sleeps in it and that dies with this one: nothing is left behind.
While the `with` block runs, the thread that entered it is on the bridge, and so is every thread and process it starts.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

ADDRESS = "10.88.0.{}"
HUB = 100
"""Last part of the clients' address."""
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace, alive until `close`."""

    def __init__(self) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.path = Path(f"/proc/{self._holder.pid}/ns/net")
        own = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: self._holder.poll() is not None or self._is_there(own), "a network namespace (needs root)")
        if self._holder.poll() is not None:
            raise PermissionError("a network namespace cannot be made: this test needs root")
        self.enter = ["nsenter", f"--net={self.path}", "--"]

    def _is_there(self, own: Path) -> bool:
        words = Path(f"/proc/{self._holder.pid}/cmdline").read_bytes().split(b"\0")
        return words[0] == b"sleep" and self.path.readlink() != own

    @property
    def pid(self) -> int:
        return self._holder.pid

    def run(self, *commands: str) -> None:
        """Run shell commands in it; the first that fails raises."""
        subprocess.run([*self.enter, "sh", "-ec", "\n".join(commands)], check=True, stdin=subprocess.DEVNULL)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


def join(path: Path) -> None:
    """Put the calling thread into a network namespace."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if _LIBC.setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {path} failed")
    finally:
        os.close(handle)


class Network:
    """Namespaces for nodes 1 to `size`, and one for the clients."""

    def __init__(self, size: int) -> None:
        self.nodes = range(1, size + 1)
        self._hub = Namespace()
        self._namespaces = {node: Namespace() for node in self.nodes}
        self._hub.run(
            "ip link set lo up",
            "ip link add br0 type bridge",
            f"ip addr add {ADDRESS.format(HUB)}/24 dev br0",
            "ip link set br0 up",
        )
        for node, namespace in self._namespaces.items():
            self._hub.run(
                f"ip link add port{node} type veth peer name eth0 netns {namespace.pid}",
                f"ip link set port{node} master br0",
                f"ip link set port{node} up",
            )
            namespace.run("ip link set lo up", f"ip addr add {ADDRESS.format(node)}/24 dev eth0", "ip link set eth0 up")

    def place(self, broker: BrokerProcess) -> None:
        """Have a broker run in the namespace of its node."""
        broker.host = ADDRESS.format(broker.node_id)
        broker.port, broker.controller_port = 9092, 9093
        broker.inside = self._namespaces[broker.node_id].enter

    def cut(self, source: int, *targets: int) -> None:
        """What a node sends to these nodes is lost; the other direction is not touched."""
        for target in targets:
            self._namespaces[target].run(f"iptables -w -A INPUT -s {ADDRESS.format(source)} -j DROP")

    def part(self, *nodes: int) -> None:
        """These nodes and the others lose whatever they send to each other; clients reach all of them."""
        for node in nodes:
            for other in self.nodes:
                if other not in nodes:
                    self.part_pair(node, other)

    def part_pair(self, one: int, other: int) -> None:
        """Two nodes lose what they send to each other; both reach everybody else."""
        self.cut(one, other)
        self.cut(other, one)

    def isolate(self, node: int) -> None:
        """Pull the plug: nobody reaches the node, and it reaches nobody."""
        self._hub.run(f"ip link set port{node} down")

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for node, namespace in self._namespaces.items():
            self._hub.run(f"ip link set port{node} up")
            namespace.run("iptables -w -F INPUT")

    def close(self) -> None:
        for namespace in (*self._namespaces.values(), self._hub):
            namespace.close()

    def __enter__(self) -> Self:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        join(self._hub.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        join(Path(f"/proc/self/fd/{self._home}"))
        os.close(self._home)
        self.close()
