"""Logs that part when leaders change, and how followers cut theirs: the cases of KIP-101, KIP-279 and KIP-320."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from broadsheet_broker.log.leader_epochs import LeaderEpochs
from broadsheet_broker.replication.truncation import truncation_offset
from broadsheet_broker.wire.errors import ErrorCode
from tests.support.replica_cluster import Cluster, run


async def alone(cluster: Cluster, leader: int, *values: bytes) -> None:
    """Append to a leader that nobody can reach."""
    others = [one for one in (1, 2, 3) if one != leader]
    for other in others:
        cluster.unlink(leader, other)
    for value in values:
        assert (await cluster.brokers[leader].produce(value, acks=1)).error_code == 0


def test_kip_101_a_restarted_follower_keeps_what_it_has_above_its_high_watermark(tmp_path: Path) -> None:
    """Scenario 1: cut to the high watermark at a restart, the only copy of an acknowledged record would go."""

    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"m1")
        await cluster.until(lambda: cluster.brokers[2].partition().high_watermark == 1)
        await cluster.brokers[1].produce(b"m2")  # the follower has m2, and may not know yet that it is committed
        await cluster.kill(2)
        await cluster.kill(1)
        follower = await cluster.start(2)
        cluster.lead(2, isr=[2])
        assert follower.values() == [b"m1", b"m2"]
        await cluster.start(1)
        await cluster.until(lambda: cluster.state.isr == (2, 1))
        assert cluster.brokers[1].values() == [b"m1", b"m2"]

    run(tmp_path, scenario, brokers=2)


def test_kip_101_two_logs_of_equal_length_do_not_stay_different(tmp_path: Path) -> None:
    """Scenario 2: after a loss of power both have a record at the same offset, but not the same one."""

    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"m1")
        await alone(cluster, 1, b"m2")
        await cluster.kill(1)
        cluster.lead(2, isr=[2])
        await cluster.brokers[2].produce(b"m3")
        cluster.cut.clear()
        await cluster.start(1)
        await cluster.until(lambda: cluster.state.isr == (2, 1))
        assert cluster.brokers[1].values() == cluster.brokers[2].values() == [b"m1", b"m3"]

    run(tmp_path, scenario, brokers=2)


def test_kip_279_logs_that_parted_in_several_epochs_are_cut_step_by_step(tmp_path: Path) -> None:
    """Fast fail-overs: each of two brokers has epochs that the other never saw."""

    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"a", b"b")
        await cluster.until_equal(1, 2)
        cluster.unlink(1, 2)
        # Unclean: each leads in turn without the other, epochs 1 to 4.
        for epoch in range(1, 5):
            leader = 1 + epoch % 2
            cluster.now_ms += 31_000
            cluster.lead(leader, isr=[leader])
            for number in range(epoch):
                assert (await cluster.brokers[leader].produce(b"%d-%d" % (epoch, number), acks=1)).error_code == 0
        epochs = [cluster.brokers[one].partition().log.epochs.entries() for one in (1, 2)]
        assert epochs == [[(0, 0), (2, 2), (4, 4)], [(0, 0), (1, 2), (3, 3)]]
        cluster.cut.clear()
        await cluster.until(lambda: len(cluster.state.isr) == 2)
        expected = [b"a", b"b", b"2-0", b"2-1", b"4-0", b"4-1", b"4-2", b"4-3"]
        assert cluster.brokers[1].values() == cluster.brokers[2].values() == expected
        assert cluster.brokers[2].partition().log.epochs.entries() == epochs[0]

    run(tmp_path, scenario, brokers=2)


def test_a_leader_that_was_deposed_before_it_appended_anything_follows(tmp_path: Path) -> None:
    """It has noted the beginning of an epoch of which the next leader knows nothing."""

    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a")
        cluster.deaf |= {2, 3}
        cluster.lead(2)
        cluster.hear(2)
        cluster.deaf.add(2)
        cluster.lead(3)
        cluster.hear(3)
        cluster.hear(2)
        assert cluster.brokers[2].partition().log.epochs.entries() == [(0, 0), (1, 1)]
        assert (await cluster.brokers[3].produce(b"b")).error_code == 0
        for broker in cluster.brokers.values():
            assert broker.values() == [b"a", b"b"]
            assert broker.partition().log.epochs.entries() == [(0, 0), (2, 1)]

    run(tmp_path, scenario)


def test_kip_320_a_deposed_leader_that_has_not_heard_is_fenced_by_its_followers_epoch(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a")
        cluster.deaf.add(1)
        cluster.lead(2)
        waiting = asyncio.ensure_future(cluster.brokers[1].produce(b"lost", timeout_ms=200))
        assert (await cluster.brokers[2].produce(b"b", timeout_ms=300)).error_code == ErrorCode.REQUEST_TIMED_OUT
        assert (await waiting).error_code == ErrorCode.REQUEST_TIMED_OUT, "nobody copies from it any more"
        cluster.hear(1)
        assert (await cluster.brokers[2].produce(b"c")).error_code == 0
        for broker in cluster.brokers.values():
            assert broker.values() == [b"a", b"b", b"c"]

    run(tmp_path, scenario)


def test_kip_320_a_follower_ahead_of_its_leader_waits_until_that_has_heard(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a")
        cluster.deaf.add(2)
        cluster.lead(2)
        before = cluster.brokers[3].links.sent
        await cluster.until(lambda: cluster.brokers[3].links.sent > before + 3)  # UNKNOWN or NOT_LEADER, with pauses
        cluster.hear(2)
        assert (await cluster.brokers[2].produce(b"b")).error_code == 0
        assert cluster.brokers[3].values() == [b"a", b"b"]

    run(tmp_path, scenario)


def test_what_only_a_lost_leader_had_is_cut_when_it_comes_back(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create()
        await cluster.brokers[1].produce(b"a")
        await cluster.until(lambda: cluster.brokers[1].partition().high_watermark == 1)
        await alone(cluster, 1, b"x", b"y", b"z")
        cluster.lead(3, isr=[2, 3])
        cluster.fence(1)
        await cluster.brokers[3].produce(b"b")
        cluster.cut.clear()
        await cluster.until(lambda: cluster.brokers[1].values() == [b"a", b"b"])

    run(tmp_path, scenario)


def test_a_cut_survives_a_crash_although_the_checkpoint_knew_more(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.create((1, 2))
        await cluster.brokers[1].produce(b"a")
        await alone(cluster, 1, b"x", b"y")
        cluster.brokers[1].partition().log.sync()
        await cluster.brokers[1].logs.housekeeping.checkpoint_recovery_points()
        assert "orders 0 3" in (tmp_path / "1" / "recovery-point-offset-checkpoint").read_text()
        cluster.now_ms += 31_000
        cluster.lead(2, isr=[2])
        cluster.cut.clear()
        await cluster.until(lambda: cluster.brokers[1].values() == [b"a"])
        await cluster.kill(1)
        broker = await cluster.start(1)
        assert broker.values() == [b"a"]

    run(tmp_path, scenario, brokers=2)


class Epochs:
    """A log as far as truncation sees it: one record per entry, each with its epoch."""

    def __init__(self, epochs: list[int]) -> None:
        self.records = list(epochs)

    @property
    def log_end_offset(self) -> int:
        return len(self.records)

    @property
    def _cache(self) -> LeaderEpochs:
        cache = LeaderEpochs([])
        for offset, epoch in enumerate(self.records):
            cache.assign(epoch, offset)
        return cache

    @property
    def latest(self) -> int:
        return self.records[-1] if self.records else -1

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        return self._cache.end_offset_of(epoch, len(self.records))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Two logs that share a beginning. After it, no epoch is in both: an epoch has one leader, hence one history."""
    common = sorted(draw(st.lists(st.integers(0, 5), max_size=6)))
    last = common[-1] if common else -1
    ours: list[int] = []
    theirs: list[int] = []
    for epoch in range(last + 1, last + 8):
        count, owner = draw(st.integers(0, 3)), draw(st.booleans())
        (ours if owner else theirs).extend([epoch] * count)
    if common and draw(st.booleans()):
        theirs = [last] * draw(st.integers(1, 3)) + theirs  # the leader of the last common epoch went on alone
    return common + ours, common + theirs, len(common)


@settings(max_examples=500)
@given(histories())
def test_cutting_ends_where_the_logs_part_and_never_before(history: tuple[list[int], list[int], int]) -> None:
    own, leader, shared = history
    follower, leads = Epochs(own), Epochs(leader)
    for _ in range(len(own) + 2):
        if follower.latest < 0:
            break  # an empty log has nothing to differ in
        if follower.latest > leads.latest:
            epoch, end = leads.latest, leads.log_end_offset  # a new leader's own epoch is above all: as good as it
            if epoch < 0:
                epoch, end = follower.latest, 0
        else:
            epoch, end = leads.end_offset_for_epoch(follower.latest)
        if epoch == follower.latest and end >= follower.log_end_offset:
            break
        target = truncation_offset(follower, epoch, end)
        assert target < follower.log_end_offset, "every step makes progress"
        del follower.records[target:]
    assert follower.records == leader[: len(follower.records)]
    assert len(follower.records) == shared, "what both have is kept"
