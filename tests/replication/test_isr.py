"""Proposals of ISRs and the high watermark: whatever the controller makes of them, nothing committed can be lost."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broadsheet_broker.replication.in_sync import Follower, IsrAnswer, IsrAnswered, IsrChange
from broadsheet_broker.replication.partition import ALL_ACKS, Partition
from broadsheet_broker.seams.metrics import TopicCounters
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from tests.replication.support import TOPIC_ID, FakeLog, Stage, State

LAG_MS = 1000
LOST = "lose the answer"
REFUSALS = [ErrorCode.INELIGIBLE_REPLICA, ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.UNKNOWN_SERVER_ERROR]
"""Whatever the state is. INVALID_UPDATE_VERSION comes when it is true: a leader then waits for the metadata."""


class Controller:
    """The surroundings of a partition: the truth about its ISR, and answers that may come late or never."""

    lag_ms = LAG_MS

    def __init__(self) -> None:
        self.now_ms = 10_000
        self.last_fetch_ms: dict[int, int] = {}
        self.isr: tuple[int, ...] = (1, 2, 3)
        self.partition_epoch = 1
        self.epochs = {1: 100, 2: 200, 3: 300}
        self.fenced: set[int] = set()
        self.asked: list[tuple[IsrChange, IsrAnswered]] = []

    def time_ms(self) -> int:
        return self.now_ms

    def broker_epoch(self, broker_id: int) -> int:
        return -1 if broker_id in self.fenced else self.epochs[broker_id]

    def may_be_replaced(self) -> bool:
        return False

    def may_join_isr(self, broker_id: int, broker_epoch: int) -> bool:
        return broker_id not in self.fenced and broker_epoch in (-1, self.epochs[broker_id])

    def alter_partition(self, change: IsrChange, answered: IsrAnswered) -> None:
        self.asked.append((change, answered))

    def alter_partition_later(self, change: IsrChange, answered: IsrAnswered) -> None:
        self.asked.append((change, answered))

    def isr_changed(self, grown: int) -> None:
        assert abs(grown) <= 2

    def isr_refused(self) -> None:
        return

    def decide(self, change: IsrChange) -> IsrAnswer | ErrorCode:
        """As the real one: an old epoch is refused, and so is a member that is fenced or in another life."""
        if change.partition_epoch != self.partition_epoch:
            return ErrorCode.INVALID_UPDATE_VERSION
        if not all(self.may_join_isr(*member) for member in change.isr):
            return ErrorCode.INELIGIBLE_REPLICA
        self.isr = tuple(member.broker_id for member in change.isr)
        self.partition_epoch += 1
        return IsrAnswer(1, 1, self.partition_epoch, self.isr)

    def state(self) -> State:
        return State(isr=self.isr, replicas=(1, 2, 3), partition_epoch=self.partition_epoch)


class Machine(RuleBasedStateMachine):
    """A leader with two followers that fetch, stall, die and come back, and a controller that may be slow or deaf."""

    @initialize(min_isr=st.integers(1, 3))
    def begin(self, min_isr: int) -> None:
        self.stage = Stage()
        self.controller = Controller()
        self.partition = Partition(
            "orders",
            0,
            TOPIC_ID,
            FakeLog(),  # type: ignore[arg-type]
            broker_id=1,
            queue=self.stage.turn,
            counters=TopicCounters(),
            min_insync_replicas=min_isr,
            cluster=self.controller,
        )
        self.partition.become_leader(self.controller.state())
        self.ends = {2: 0, 3: 0}
        self.seen_high_watermark = 0
        self.acknowledged = 0

    @rule(size=st.integers(1, 3))
    def append(self, size: int) -> None:
        try:
            info = self.partition.append(b"x" * size, ALL_ACKS, 0)
        except KafkaError as error:
            assert error.code == ErrorCode.NOT_ENOUGH_REPLICAS
            return
        self.stage.loop.settle()
        self.partition.on_high_watermark(info.last_offset + 1, self._note(info.last_offset + 1))

    def _note(self, end: int) -> Callable[[ErrorCode], None]:
        def told(code: ErrorCode) -> None:
            assert code == ErrorCode.NONE
            assert end > self.acknowledged
            self.acknowledged = end

        return told

    @rule(replica=st.sampled_from((2, 3)), share=st.floats(0, 1))
    def fetch(self, replica: int, share: float) -> None:
        """What it asks for it has; the answer gives it a part of the rest."""
        if replica in self.controller.fenced:
            return
        end = self.partition.flushed_end_offset
        self.controller.last_fetch_ms[replica] = self.controller.now_ms
        self.partition.update_follower(
            replica, self.ends[replica], 0, self.controller.now_ms, self.controller.epochs[replica]
        )
        self.ends[replica] += round((end - self.ends[replica]) * share)

    @rule(ms=st.integers(1, 800))
    def time_passes(self, ms: int) -> None:
        self.controller.now_ms += ms

    @rule()
    def shrink(self) -> None:
        self.partition.shrink_isr(self.controller.now_ms)

    @rule(outcome=st.sampled_from(["decide", LOST, *REFUSALS]))
    def answer(self, outcome: str | ErrorCode) -> None:
        if not self.controller.asked:
            return
        change, answered = self.controller.asked.pop(0)
        if isinstance(outcome, ErrorCode):
            answered(outcome)
        elif outcome == "decide":
            answered(self.controller.decide(change))
        else:  # and so it is asked again
            self.controller.decide(change)
            self.controller.asked.insert(0, (change, answered))

    @rule()
    def metadata(self) -> None:
        self.partition.become_leader(self.controller.state())

    @rule(replica=st.sampled_from((2, 3)))
    def die(self, replica: int) -> None:
        self.controller.fenced.add(replica)
        if len(self.controller.isr) > 1 and replica in self.controller.isr:
            self.controller.isr = tuple(one for one in self.controller.isr if one != replica)
            self.controller.partition_epoch += 1

    @rule(replica=st.sampled_from((2, 3)), lost=st.floats(0, 1))
    def come_back(self, replica: int, lost: float) -> None:
        """Another life; out of the ISR it may have lost a part of its log."""
        if replica in self.controller.fenced:
            self.controller.fenced.discard(replica)
            self.controller.epochs[replica] += 1
            if replica not in self.controller.isr:
                self.ends[replica] = round(self.ends[replica] * (1 - lost))

    @invariant()
    def every_member_of_the_isr_has_what_is_committed(self) -> None:
        if not hasattr(self, "partition"):
            return
        mark = self.partition.high_watermark
        for replica in self.controller.isr:
            assert replica == 1 or self.ends[replica] >= mark, f"electing {replica} would lose records"
        assert mark >= self.seen_high_watermark
        assert mark <= self.partition.flushed_end_offset
        assert self.acknowledged <= mark
        self.seen_high_watermark = mark

    def teardown(self) -> None:
        """With everybody well and a controller that answers, the ISR is whole again and everything is committed."""
        if not hasattr(self, "partition"):
            return
        for replica in (2, 3):
            self.come_back(replica, 0)
        for _ in range(8):
            self.metadata()
            for replica in (2, 3):
                self.fetch(replica, 1)
                self.fetch(replica, 1)
            while self.controller.asked:
                self.answer("decide")
        assert set(self.partition.isr) == {1, 2, 3}
        assert self.partition.high_watermark == self.partition.flushed_end_offset


TestIsrChanges = Machine.TestCase
TestIsrChanges.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 100)), min_size=1, max_size=20))
def test_a_follower_is_caught_up_as_long_as_it_keeps_pace(steps: list[tuple[int, int]]) -> None:
    """One that always gets to where the leader was at its last fetch never lags by more than one round."""
    follower, leader_end, now = Follower(2, 0), 0, 0
    for grown, ms in steps:
        before = leader_end
        now += ms
        leader_end += grown
        follower.fetched(before, 0, leader_end, now)
    assert follower.is_caught_up(leader_end, now, lag_ms=200)


def test_a_smaller_isr_is_taken_up_no_sooner_than_the_min_isr_from_before_it() -> None:
    """The controller's answer was faster than the metadata: the leader committed alone, by the old value, what nobody
    else had, while the controller counted on whoever had left the ISR having everything that is committed."""
    stage, controller = Stage(), Controller()
    partition = Partition(
        "orders",
        0,
        TOPIC_ID,
        FakeLog(),  # type: ignore[arg-type]
        broker_id=1,
        queue=stage.turn,
        counters=TopicCounters(),
        cluster=controller,
    )
    partition.become_leader(controller.state())
    partition.append(b"x", 1, 0)
    stage.loop.settle()
    controller.now_ms += 2 * LAG_MS
    partition.shrink_isr(controller.now_ms)
    ((change, answered),) = controller.asked
    answered(controller.decide(change))
    assert controller.isr == (1,) and (partition.isr, partition.high_watermark) == ((1, 2, 3), 0)
    partition.require_replicas(2)
    partition.become_leader(controller.state())
    assert (partition.isr, partition.high_watermark) == ((1,), 0)
