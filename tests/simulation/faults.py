"""What goes wrong in a run, and when: a schedule made from the seed before anything starts, so that it can be reported.

Every fault has an end. When the last has ended everything is healed, and from then on the cluster has no excuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from random import Random

from tests.simulation.cluster import Cluster, Node
from tests.support.history.operations import History, Loss
from tests.support.simulated_loop import Host


class Aim(Enum):
    """Whom a fault is for, when it comes."""

    NODE = "broker"
    LEADER = "leader of partition 0"
    CONTROLLER = "active controller"


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """One thing that goes wrong."""

    at: float
    until: float
    """Virtual seconds."""
    kind: str
    node: int
    amount: float = 0.0
    """How much of it, by kind: bytes, seconds, writes."""
    aim: Aim = Aim.NODE

    def __str__(self) -> str:
        amount = f" {self.amount:g}" if self.amount else ""
        aim = "" if self.aim is Aim.NODE else f"{self.aim.value}, else "
        return f"{self.at:8.3f} s to {self.until:8.3f} s: {self.kind}{amount} {aim}broker-{self.node}"


class Faults:
    """Carries a schedule out. For each kind there is a method that begins it, and maybe one that ends it."""

    def __init__(self, cluster: Cluster, clients: list[Host], history: History, random: Random) -> None:
        self.cluster = cluster
        self.clients = clients
        self.history = history
        self.random = random
        self.log: list[str] = []
        """Whom aimed faults have hit."""

    def plan(self, schedule: list[Fault]) -> None:
        wire = self.cluster.simulation.network.wire
        for fault in schedule:
            wire.call_at(fault.at, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        begin: Callable[[Fault, Node], None] = getattr(self, fault.kind)
        end: Callable[[Fault, Node], None] = getattr(self, "end_" + fault.kind, self._bring_back)
        node = self.aimed_at(fault)
        if fault.aim is not Aim.NODE:
            self.log.append(f"{fault.at:8.3f} s: {fault.kind} hits {node.name}")
        self.cluster.simulation.network.wire.call_at(fault.until, end, fault, node)
        begin(fault, node)

    def aimed_at(self, fault: Fault) -> Node:
        """The node that the fault is for at this moment: who leads in the newest epoch, or the named one."""
        best, epoch = self.cluster.nodes[fault.node], -1
        for node in self.cluster.nodes.values() if fault.aim is not Aim.NODE else ():
            led = node.led_epoch(fault.aim is Aim.CONTROLLER)
            if led > epoch:
                best, epoch = node, led
        return best

    def heal(self) -> None:
        """The end of all troubles."""
        network = self.cluster.simulation.network
        network.latency = NORMAL_LATENCY
        network.heal()
        for node in self.cluster.nodes.values():
            node.bring_back()

    def _bring_back(self, fault: Fault, node: Node) -> None:
        node.bring_back()

    # Processes.

    def kill(self, fault: Fault, node: Node) -> None:
        node.kill()

    def kill_while_writing(self, fault: Fault, node: Node) -> None:
        node.kill_while_writing(int(fault.amount))

    def restart(self, fault: Fault, node: Node) -> None:
        node.stop()

    def pause(self, fault: Fault, node: Node) -> None:
        node.host.pause()

    def end_pause(self, fault: Fault, node: Node) -> None:
        node.host.resume()

    def lose_power(self, fault: Fault, node: Node) -> None:
        node.lose_power()
        if len(self.cluster.nodes) == 1:
            self.history.losses.append(Loss(self.cluster.simulation.time))

    def kill_all(self, fault: Fault, node: Node) -> None:
        for each in self.cluster.nodes.values():
            each.kill()

    def end_kill_all(self, fault: Fault, node: Node) -> None:
        for each in self.cluster.nodes.values():
            each.bring_back()

    # Network.

    def isolate(self, fault: Fault, node: Node) -> None:
        """Cut off from all others."""
        self.cluster.simulation.network.partition([node.host], self._others(node) + self.clients, reason=fault)

    def part_brokers(self, fault: Fault, node: Node) -> None:
        """Cut off from the other brokers; clients reach all."""
        self.cluster.simulation.network.partition([node.host], self._others(node), reason=fault)

    def part_pair(self, fault: Fault, node: Node) -> None:
        """It and one other broker do not reach each other; all others reach both."""
        self.cluster.simulation.network.partition([node.host], self._others(node)[:1], reason=fault)

    def part_all(self, fault: Fault, node: Node) -> None:
        """No broker reaches another; clients reach all."""
        groups = [[each.host] for each in self.cluster.nodes.values()]
        self.cluster.simulation.network.partition(*groups, reason=fault)

    def split(self, fault: Fault, node: Node) -> None:
        """It is alone with half of the clients."""
        near, far = self.clients[::2], self.clients[1::2]
        self.cluster.simulation.network.partition([node.host, *near], self._others(node) + far, reason=fault)

    def part_clients(self, fault: Fault, node: Node) -> None:
        """Cut off from the clients; brokers reach each other."""
        self.cluster.simulation.network.partition([node.host], self.clients, reason=fault)

    def deafen(self, fault: Fault, node: Node) -> None:
        """Others hear it, it hears no other host."""
        for other in self._others(node) + self.clients:
            self.cluster.simulation.network.cut(other, node.host, reason=fault)

    def mute(self, fault: Fault, node: Node) -> None:
        """It hears others, they hear nothing of it."""
        for other in self._others(node):
            self.cluster.simulation.network.cut(node.host, other, reason=fault)

    def _end_partition(self, fault: Fault, node: Node) -> None:
        self.cluster.simulation.network.heal(fault)

    end_isolate = end_part_brokers = end_part_clients = end_deafen = end_mute = _end_partition
    end_part_pair = end_part_all = end_split = _end_partition

    def reset(self, fault: Fault, node: Node) -> None:
        """Every connection of the node is reset."""
        for other in self._others(node) + self.clients:
            self.cluster.simulation.network.drop_connections(node.host, other)

    def end_reset(self, fault: Fault, node: Node) -> None:
        self.reset(fault, node)

    def delay(self, fault: Fault, node: Node) -> None:
        """Everything takes long."""
        self.cluster.simulation.network.latency = (0.001, fault.amount)

    def end_delay(self, fault: Fault, node: Node) -> None:
        self.cluster.simulation.network.latency = NORMAL_LATENCY

    def _others(self, node: Node) -> list[Host]:
        return [other.host for other in self.cluster.nodes.values() if other is not node]

    # Disk and clock.

    def slow_disk(self, fault: Fault, node: Node) -> None:
        node.slow_disk(fault.amount / 10, fault.amount)

    def full_disk(self, fault: Fault, node: Node) -> None:
        node.fill_disk(int(fault.amount))

    def failing_sync(self, fault: Fault, node: Node) -> None:
        node.break_disk(("sync",))

    def failing_writes(self, fault: Fault, node: Node) -> None:
        node.break_disk(("append", "write", "replace"))

    def step_clock(self, fault: Fault, node: Node) -> None:
        node.host.clock_skew_ms += int(fault.amount * 1000)

    def end_step_clock(self, fault: Fault, node: Node) -> None:
        node.host.clock_skew_ms -= int(fault.amount * 1000)


NORMAL_LATENCY = (0.0001, 0.002)
"""Seconds one way."""

# Kind: weight, shortest and longest duration (s), smallest and largest amount.
_ANYWHERE: dict[str, tuple[float, float, float, float, float]] = {
    "kill": (4, 0.05, 4, 0, 0),
    "kill_while_writing": (4, 0.5, 4, 1, 15),
    "restart": (2, 0.2, 3, 0, 0),
    "pause": (2, 0.1, 12, 0, 0),
    "part_clients": (1, 0.1, 12, 0, 0),
    "reset": (2, 0.05, 1, 0, 0),
    "delay": (1, 0.5, 4, 0.01, 0.3),
    "slow_disk": (1, 0.5, 5, 0.02, 1.0),
    "full_disk": (1, 0.2, 4, 0, 4000),
    "failing_sync": (0.5, 0.1, 2, 0, 0),
    "failing_writes": (0.5, 0.1, 2, 0, 0),
    "step_clock": (1, 0.5, 6, -4000, 4000),
}
_BETWEEN_BROKERS: dict[str, tuple[float, float, float, float, float]] = {
    "isolate": (3, 0.1, 12, 0, 0),
    "part_brokers": (4, 0.1, 12, 0, 0),
    "part_pair": (2, 0.1, 12, 0, 0),
    "part_all": (1, 0.1, 4, 0, 0),
    "split": (2, 0.1, 12, 0, 0),
    "deafen": (2, 0.1, 12, 0, 0),
    "mute": (2, 0.1, 12, 0, 0),
    "kill_all": (0.5, 0.1, 2, 0, 0),
}


def make_schedule(random: Random, brokers: int, begin: float, end: float) -> list[Fault]:
    """Faults between two times. Loss of power comes at most once, and in a part of the runs only: it weakens what a
    single broker has promised.

    With several brokers, little happens as long as no leader is hit: half of the faults look for one.
    """
    kinds = _ANYWHERE | (_BETWEEN_BROKERS if brokers > 1 else {})
    chosen = random.sample(sorted(kinds), random.randint(1, 5))  # a few kinds per run: others do not drown them
    if brokers > 1:
        chosen.append(random.choice(sorted(_BETWEEN_BROKERS)))
    schedule = []
    for _ in range(random.randint(1, 8) if brokers == 1 else random.randint(2, 12)):
        kind = random.choices(chosen, [kinds[name][0] for name in chosen])[0]
        schedule.append(_fault(random, kind, kinds[kind], brokers, begin, end))
    if random.random() < 0.25:
        loss = _fault(random, "lose_power", (1, 0.05, 4, 0, 0), brokers, begin, end)
        if brokers > 1 and random.random() < 0.5:  # while others are cut off or away: few are in sync then
            other = random.choice(schedule)
            at = round(random.uniform(other.at, other.until), 6)
            loss = replace(loss, at=at, until=at + loss.until - loss.at)
        if brokers > 1:
            schedule = [fault for fault in schedule if not _too_much(fault, loss, schedule)]
        schedule.append(loss)
    return sorted(schedule, key=lambda fault: (fault.at, fault.kind, fault.node))


_UNCLEAN = {"kill", "kill_while_writing", "kill_all", "failing_sync", "failing_writes", "full_disk"}
"""What ends a process without its marker of a clean stop: a bad or full disk because the broker is started again on the
good one (`Node.bring_back`)."""
_HARMLESS = {"reset", "step_clock", "part_clients"}
"""What keeps no broker out of an ISR."""
_RECOVERY = 6.0
"""Seconds without trouble in which a replica is back in its ISRs."""


def _too_much(fault: Fault, loss: Fault, schedule: list[Fault]) -> bool:
    """Whether a fault and a loss of power are more than is promised: that nothing is lost as long as fewer than
    min.insync.replicas members end uncleanly together (KIP-966), here two.

    A broker that loses its power loses a tail of what it had acknowledged. It says so when it registers again, as does
    one that was only killed: neither is trusted until it is back in the ISR. A broker that was only cut off,
    stopped or paused has all that was committed, in the ISR or out of it, and leads.
    """
    if fault.kind not in _UNCLEAN:
        return False
    first, then = sorted((fault, loss), key=lambda each: each.at)
    return then.at < _calm_after(first.until, schedule)


def _calm_after(time: float, schedule: list[Fault]) -> float:
    """When there has been no trouble for long enough after a time that all replicas are in the ISR again."""
    for fault in sorted(schedule, key=lambda fault: fault.at):
        if fault.kind not in _HARMLESS and fault.until > time and fault.at < time + _RECOVERY:
            time = fault.until
    return time + _RECOVERY


def _fault(
    random: Random, kind: str, shape: tuple[float, float, float, float, float], brokers: int, begin: float, end: float
) -> Fault:
    _, shortest, longest, smallest, largest = shape
    at = round(random.uniform(begin, end), 6)
    until = round(min(at + shortest * (longest / shortest) ** random.random(), end + 1), 6)
    node, amount = random.randint(1, brokers), round(random.uniform(smallest, largest), 3)
    aim = Aim.NODE if brokers == 1 else random.choice((Aim.NODE, Aim.NODE, Aim.LEADER, Aim.LEADER, Aim.CONTROLLER))
    return Fault(at, until, kind, node, amount, aim)
