"""How long a partition is without an acknowledged write when its leader dies or falls silent."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence

from e2e.bench import load, probes
from e2e.brokers import Brokers
from tests.support.waiting import wait_until

DEADLINE_S = 90.0
SETTLE_S = 3.0
"""A broker that has just come back is given this long before the next one is taken away."""


class Failover:
    """Takes one leader after the other away. All but the last lead nothing but their topic; the last one is the
    active controller as well, so that the longest time is the one with two elections."""

    def __init__(self, cluster: Brokers, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.say = say
        self._number = 0

    def times(self, fault: signal.Signals, repetitions: int) -> Sequence[float]:
        """Seconds without an acknowledged write, once for each repetition. The fault is SIGKILL or SIGSTOP."""
        found = []
        for repetition in range(repetitions):
            controller = self.controller()
            followers = [node for node in self.cluster.brokers if node != controller]
            last = repetition == repetitions - 1
            victim = controller if last else followers[repetition % len(followers)]
            found.append(self._once(fault, victim))
            whom = "the active controller" if last else "a leader"
            self.say(f"{self.cluster.name:>10}  {fault.name} of {whom}: {found[-1]:.2f} s")
        return found

    def controller(self) -> int:
        """The active controller, as soon as every living broker names the same one."""
        living = [broker.bootstrap for broker in self.cluster.brokers.values() if broker.running]

        def agreed() -> bool:
            return len({probes.active_controller(bootstrap) for bootstrap in living} - {probes.NOT_THERE}) == 1

        wait_until(agreed, "one active controller", DEADLINE_S)
        return probes.active_controller(living[0])

    def take_away(self, fault: signal.Signals, victim: int) -> float:
        """When it happened, in seconds of time.perf_counter."""
        broker = self.cluster.brokers[victim]
        began = time.perf_counter()
        if fault == signal.SIGKILL:
            broker.kill()
        else:
            os.kill(broker.pid, fault)
        return began

    def bring_back(self, fault: signal.Signals, victim: int, topic: str) -> None:
        """Until it is in sync again."""
        broker = self.cluster.brokers[victim]
        if fault == signal.SIGKILL:
            broker.start()
        else:
            os.kill(broker.pid, signal.SIGCONT)
        everyone = [broker.bootstrap for broker in self.cluster.brokers.values()]
        probes.first_success(everyone, probes.has_full_isr(topic, len(everyone)), DEADLINE_S)

    def _once(self, fault: signal.Signals, victim: int) -> float:
        self._number += 1
        topic = f"failover-{fault.name}-{self._number}"
        followers = [node for node in self.cluster.brokers if node != victim]
        load.create_topic_at(self.cluster.bootstrap, topic, [victim, *followers])
        attempt = probes.produces(topic)
        probes.first_success([self.cluster.brokers[victim].bootstrap], attempt, DEADLINE_S)
        time.sleep(SETTLE_S)
        survivors = [self.cluster[node].bootstrap for node in self.cluster.others(victim)]
        began = self.take_away(fault, victim)
        try:
            return probes.first_success(survivors, attempt, DEADLINE_S) - began
        finally:
            self.bring_back(fault, victim, topic)


def median_and_longest(times: Sequence[float]) -> tuple[float, float]:
    return statistics.median(times), max(times)
