"""Eligible leader replicas (KIP-966), a rule a test: who is eligible, who is elected, and who is so no more."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.controller import active
from broadsheet_broker.controller.brokers import (
    SUPPORTED_FEATURES,
    Registration,
    fence_broker,
    register_broker,
    unfence_broker,
    unregister_broker,
)
from broadsheet_broker.controller.eligible_replicas import FEATURE, MIN_ISR, follow_configuration
from broadsheet_broker.controller.features import update_features
from broadsheet_broker.controller.partition_change import RECOVERING, Defaults, Election, Rules, Target
from broadsheet_broker.metadata.image import NO_LEADER, ClusterImage, Endpoint, PartitionImage
from broadsheet_broker.node.quorum import first_records
from broadsheet_broker.storage_tool import StorageError, format_directories
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.clear_elr_record import ClearElrRecord
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from tests.controller.test_configs_and_elections import BROKER, DELETE, SET, TOPIC, change, three
from tests.controller.test_isr_and_sessions import after
from tests.controller.test_partition_changes import ELR, partition
from tests.controller.test_partition_changes import change as changed
from tests.support.controllers import CLUSTER_ID, broker_config, environment, running

TWO = Defaults(min_isr=2)
NO_BROKER: set[int] = set()


def brief(state: PartitionImage) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Leader, ISR, ELR, last known leader."""
    return state.leader, state.isr, tuple(sorted(state.elr)), state.last_known_elr


# One change of a partition.


def test_who_leaves_an_isr_that_is_large_enough_is_not_eligible() -> None:
    assert brief(changed(partition(), Target(isr=[1, 2]), {1, 2}, ELR)) == (1, (1, 2), (), ())


def test_who_leaves_an_isr_that_is_too_small_then_is_eligible() -> None:
    assert brief(changed(partition(isr=(1, 2)), Target(isr=[1]), {1}, ELR)) == (1, (1,), (2,), ())


def test_all_are_eligible_whom_a_leader_leaves_out_at_once() -> None:
    """None of them lacks anything that was committed, since the high watermark waited for all."""
    assert brief(changed(partition(), Target(isr=[1]), {1}, ELR)) == (1, (1,), (2, 3), ())


def test_min_isr_is_never_more_than_there_are_replicas() -> None:
    before = partition((1, 2), leader=1)
    assert brief(changed(before, Target(isr=[1]), {1}, Rules(min_isr=5, eligible_leader_replicas=True)))[2] == (2,)
    alone = partition((1,), leader=1)
    assert brief(changed(alone, Target(), {1}, Rules(min_isr=5, eligible_leader_replicas=True)))[2] == ()


def test_no_replica_is_eligible_once_the_isr_is_large_enough_again() -> None:
    before = partition(isr=(1,), elr=(2,))
    assert brief(changed(before, Target(isr=[1, 3]), {1, 3}, ELR)) == (1, (1, 3), (), ())


def test_a_member_of_the_isr_is_not_eligible_besides() -> None:
    before = partition(isr=(1,), elr=(2, 3))
    rules = Rules(min_isr=3, eligible_leader_replicas=True)
    assert brief(changed(before, Target(isr=[1, 2]), {1, 2}, rules)) == (1, (1, 2), (3,), ())


def test_the_last_member_leaves_the_isr_and_is_remembered_as_the_last_leader() -> None:
    assert brief(changed(partition(isr=(1,), elr=(2,)), Target(isr=[]), NO_BROKER, ELR)) == (
        NO_LEADER,
        (),
        (1, 2),
        (1,),
    )


def test_an_eligible_replica_is_elected_cleanly_when_none_is_in_sync() -> None:
    before = partition(isr=(1,), elr=(2,))
    state = changed(before, Target(isr=[]), {2, 3}, ELR)
    assert brief(state) == (2, (2,), (1,), ()) and state.leader_recovery_state == 0
    assert state.leader_epoch == before.leader_epoch + 1


def test_eligible_replicas_are_elected_in_the_order_of_the_replica_list() -> None:
    before = partition((3, 2, 1), isr=(), leader=NO_LEADER, elr=(1, 2), last=(1,))
    assert changed(before, Target(), {1, 2, 3}, ELR).leader == 2


def test_a_fenced_replica_is_not_elected_although_it_is_eligible() -> None:
    before = partition(isr=(), leader=NO_LEADER, elr=(1, 2), last=(1,))
    assert changed(before, Target(), {3}, ELR) == before, "3 may lack what was committed"


def test_no_eligible_replica_is_elected_while_one_is_in_sync() -> None:
    before = partition(isr=(1,), leader=NO_LEADER, elr=(2,))
    assert changed(before, Target(), {2}, ELR).leader == NO_LEADER


def test_an_unclean_stop_ends_eligibility() -> None:
    before = partition(isr=(), leader=NO_LEADER, elr=(1, 2), last=(1,))
    assert brief(changed(before, Target(isr=[], lost_tail=[2]), NO_BROKER, ELR)) == (NO_LEADER, (), (1,), (1,))


def test_an_unclean_stop_takes_even_the_last_member_out_of_the_isr() -> None:
    before = partition(isr=(1,), elr=(2,))
    assert brief(changed(before, Target(isr=[], lost_tail=[1]), {2}, ELR)) == (2, (2,), (), ())


def test_the_last_leader_is_elected_uncleanly_when_no_replica_is_eligible() -> None:
    before = partition(isr=(), leader=NO_LEADER, last=(1,))
    assert changed(before, Target(), {2, 3}, ELR).leader == NO_LEADER
    state = changed(before, Target(), {1, 2, 3}, ELR)
    assert brief(state) == (1, (1,), (), ()) and state.leader_recovery_state == RECOVERING


def test_several_last_known_replicas_are_not_a_last_leader() -> None:
    before = partition(isr=(), leader=NO_LEADER, last=(1, 2))
    assert changed(before, Target(), {1, 2, 3}, ELR).leader == NO_LEADER


def test_a_last_leader_that_is_no_replica_any_more_is_not_elected() -> None:
    """A reassignment to it was cancelled uncleanly while no other broker was there."""
    before = partition((1, 2, 3, 4), isr=(4,), leader=4, adding=(4,))
    target = Target(isr=[], replicas=[1, 2, 3], adding=[], removing=[])
    state = changed(before, target, {4}, ELR, election=Election.UNCLEAN)
    assert brief(state) == (NO_LEADER, (), (), ())
    assert changed(partition(isr=(), leader=NO_LEADER, last=(4,)), Target(), {4}, ELR).leader == NO_LEADER


def test_the_last_leader_is_not_elected_while_another_replica_is_eligible() -> None:
    before = partition(isr=(), leader=NO_LEADER, elr=(2,), last=(1,))
    assert changed(before, Target(), {1, 3}, ELR).leader == NO_LEADER


def test_an_unclean_election_ends_all_eligibility() -> None:
    before = partition(isr=(), leader=NO_LEADER, elr=(1, 2), last=(1,))
    state = changed(before, Target(), {3}, ELR, election=Election.UNCLEAN)
    assert brief(state) == (3, (3,), (), ()) and state.leader_recovery_state == RECOVERING
    assert changed(before, Target(), {3}, replace_unclean(ELR)).leader == 3, "a topic may allow it"


def replace_unclean(rules: Rules) -> Rules:
    return rules._replace(unclean=True)


def test_an_unclean_election_takes_an_eligible_replica_if_it_can() -> None:
    before = partition(isr=(), leader=NO_LEADER, elr=(2,), last=(1,))
    state = changed(before, Target(), {1, 2, 3}, ELR, election=Election.UNCLEAN)
    assert brief(state) == (2, (2,), (), ()) and state.leader_recovery_state == 0


def test_a_replica_that_is_moved_away_is_not_eligible() -> None:
    before = partition((1, 2, 3), isr=(1,), elr=(2,))
    state = changed(before, Target(replicas=[1, 3]), {1, 3}, ELR)
    assert brief(state) == (1, (1,), (), ())


def test_a_leader_that_is_enough_by_itself_commits_without_the_eligible() -> None:
    """min.insync.replicas was lowered while there was no leader: the others are eligible for the old records only."""
    before = partition(isr=(), leader=NO_LEADER, elr=(1, 2), last=(1,))
    one = Rules(min_isr=1, eligible_leader_replicas=True)
    assert brief(changed(before, Target(), {1}, one)) == (1, (1,), (), ())


def test_a_partition_without_leader_from_before_the_feature_was_on_can_be_led_again() -> None:
    """Its only member stopped uncleanly, and the last leader is not recorded: it is that member."""
    before = partition(isr=(3,), leader=NO_LEADER)
    gone = changed(before, Target(isr=[], lost_tail=[3]), {1, 2}, ELR)
    assert brief(gone) == (NO_LEADER, (), (), (3,))
    assert changed(gone, Target(), {1, 2, 3}, ELR).leader == 3


# Brokers come and go.


def elr_cluster(*, isr: list[int], leader: int, fenced: tuple[int, ...] = ()) -> ClusterImage:
    return replace(three(isr=isr, leader=leader, fenced=fenced), features={"metadata.version": 30, FEATURE: 1})


def state_of(image: ClusterImage) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return brief(image.topics_by_name["orders"].partitions[0])


def comes_back(image: ClusterImage, broker: int, *, clean: bool) -> ClusterImage:
    """Registers again and is unfenced."""
    known = image.brokers.get(broker)
    epoch = known.epoch if known is not None and clean else -1
    life = Registration(broker, uuid.UUID(int=60 + broker), {"P": Endpoint("h", 1)}, (), previous_epoch=epoch)
    image = after(image, register_broker(image, life, image.offset + 1, TWO))
    return after(image, unfence_broker(image, broker, TWO))


def fenced(image: ClusterImage, *ids: int) -> ClusterImage:
    for id in ids:
        image = after(image, fence_broker(image, id, TWO))
    return image


def test_what_only_a_broker_without_power_has_is_led_by_who_left_the_isr_before() -> None:
    """The ISR shrank to broker 1, whose power fails then: broker 2 has every committed record, broker 1 may not."""
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2, 1)
    assert state_of(image) == (NO_LEADER, (), (1, 2), (1,))
    image = comes_back(image, 1, clean=False)
    assert state_of(image) == (NO_LEADER, (), (2,), (1,)), "it waits for broker 2"
    image = comes_back(image, 2, clean=True)
    assert state_of(image) == (2, (2,), (), ())


def test_who_stopped_cleanly_leads_again_although_it_was_the_last() -> None:
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2, 1)
    assert state_of(comes_back(image, 1, clean=True)) == (1, (1,), (2,), ())


def test_the_last_leader_leads_again_when_all_stopped_uncleanly() -> None:
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2, 1)
    image = comes_back(comes_back(image, 3, clean=False), 2, clean=False)
    assert state_of(image) == (NO_LEADER, (), (1,), (1,))
    assert state_of(comes_back(image, 1, clean=False)) == (1, (1,), (), ())


def test_a_broker_that_was_unregistered_meanwhile_is_not_trusted() -> None:
    """The epoch that it would have to name is forgotten; its disk may be another one."""
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2)
    assert state_of(image) == (1, (1,), (2,), ())
    image = after(image, unregister_broker(image, 2, TWO))
    assert state_of(comes_back(image, 2, clean=True)) == (1, (1,), (), ())


# Another min.insync.replicas.


def test_no_replica_is_eligible_by_a_min_isr_that_was_replaced() -> None:
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2)
    for type, name, cleared in ((TOPIC, "orders", "orders"), (BROKER, "", "")):
        answer, records = change(image, type, name, (MIN_ISR, SET, "1"))
        assert answer.error_code == 0
        assert [r.topic_name for r in records if isinstance(r, ClearElrRecord)] == [cleared]
        assert state_of(after(image, records)) == (1, (1,), (), ())


def test_another_property_leaves_the_eligible_alone() -> None:
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2)
    assert [type(r) for r in change(image, TOPIC, "orders", ("retention.ms", SET, "1"))[1]] == [ConfigRecord]


def test_a_partition_without_a_leader_can_be_led_again_after_min_isr_was_changed() -> None:
    """It would have no eligible replica and no last leader, so no leader could ever be elected."""
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2, 1)
    image = after(image, change(image, TOPIC, "orders", (MIN_ISR, SET, "1"))[1])
    assert state_of(image) == (NO_LEADER, (), (1, 2), (1,))
    assert state_of(comes_back(image, 2, clean=True)) == (2, (2,), (), ())


def test_without_the_feature_what_kafka_left_behind_is_cleared_as_well() -> None:
    image = replace(fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2), features={"metadata.version": 30})
    assert state_of(after(image, change(image, TOPIC, "orders", (MIN_ISR, SET, "1"))[1])) == (1, (1,), (), ())
    assert not any(
        isinstance(r, ClearElrRecord) for r in change(three(isr=[1], leader=1), TOPIC, "orders", (MIN_ISR, SET, "1"))[1]
    )


@pytest.mark.parametrize(
    ("name", "operation", "message"),
    [
        ("1", SET, "Broker-level min.insync.replicas cannot be altered"),
        ("", DELETE, "Cluster-level min.insync.replicas cannot be removed"),
    ],
)
def test_min_isr_belongs_to_the_cluster(name: str, operation: int, message: str) -> None:
    image = elr_cluster(isr=[1, 2], leader=1)
    answer, records = change(image, BROKER, name, (MIN_ISR, operation, None if operation == DELETE else "2"))
    assert answer.error_code == ErrorCode.INVALID_CONFIG and message in answer.error_message and not records


# The feature.


def feature(image: ClusterImage, level: int, kind: int, *more: FeatureUpdateKey) -> tuple[Any, list[Any]]:
    row = FeatureUpdateKey(feature=FEATURE, max_version_level=level, upgrade_type=kind)
    plan = update_features(image, UpdateFeaturesRequest(feature_updates=[*more, row]), 2, TWO)
    return plan.answer, plan.records


def without_feature(level: int) -> ClusterImage:
    """Brokers that know the feature, in a cluster at that metadata.version without it."""
    image = replace(three(isr=[1], leader=1), features={"metadata.version": level})
    able = {id: replace(broker, features=SUPPORTED_FEATURES) for id, broker in image.brokers.items()}
    return replace(image, brokers=able)


def config(name: str, value: str) -> ConfigRecord:
    return ConfigRecord(resource_type=BROKER, resource_name=name, name=MIN_ISR, value=value)


def test_when_the_feature_is_turned_on_all_agree_on_one_min_isr() -> None:
    image = after(without_feature(30), [config("2", "3"), config("9", "3")])
    answer, records = feature(image, 1, 1)
    assert answer.error_code == 0
    image = after(image, records)
    assert image.features[FEATURE] == 1 and image.config(BROKER, "") == {MIN_ISR: "2"}
    assert not image.config(BROKER, "2") and not image.config(BROKER, "9")
    assert type(records[-1]) is FeatureLevelRecord


def test_a_min_isr_that_the_cluster_has_already_stays() -> None:
    image = after(without_feature(30), [config("", "3")])
    assert after(image, feature(image, 1, 1)[1]).config(BROKER, "") == {MIN_ISR: "3"}


def test_the_feature_needs_records_that_every_node_can_read() -> None:
    image = without_feature(22)
    answer, records = feature(image, 1, 1)
    assert answer.error_code == ErrorCode.INVALID_UPDATE_VERSION and not records
    assert "depends on metadata.version level 23" in answer.error_message
    both = FeatureUpdateKey(feature="metadata.version", max_version_level=30, upgrade_type=1)
    assert feature(image, 1, 1, both)[0].error_code == 0, "together with metadata.version it is fine"


def test_the_feature_is_not_turned_off_by_an_upgrade() -> None:
    answer, records = feature(elr_cluster(isr=[1], leader=1), 0, 1)
    assert answer.error_code == ErrorCode.INVALID_UPDATE_VERSION and not records


def test_without_the_feature_who_could_have_led_is_in_the_isr_again() -> None:
    led = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2)
    off = after(led, feature(led, 0, 2)[1])
    assert FEATURE not in off.features and state_of(off) == (1, (1,), (), ())
    unled = fenced(led, 1)
    off = after(unled, feature(unled, 0, 2)[1])
    leader, isr, *rest = state_of(off)
    assert (leader, set(isr), rest) == (NO_LEADER, {1, 2}, [(), ()])
    off = comes_back(off, 2, clean=True)
    assert state_of(comes_back(off, 1, clean=True)) == (1, (1,), (), ())
    last = after(
        unled,
        [
            PartitionChangeRecord(
                partition_id=0, topic_id=unled.topics_by_name["orders"].id, eligible_leader_replicas=[]
            )
        ],
    )
    off = after(last, feature(last, 0, 2)[1])
    assert state_of(off) == (NO_LEADER, (1,), (), ())
    assert state_of(comes_back(off, 1, clean=False))[0] == 1


# New clusters.


def test_a_new_cluster_has_eligible_replicas_and_one_min_isr(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path, min_insync_replicas="2") as node:
            image = node.metadata.image
            assert image.features[FEATURE] == 1
            assert image.config(BROKER, "") == {MIN_ISR: "2"}, "as the configuration of the first controller has it"

    asyncio.run(run())


def test_min_isr_of_the_configuration_becomes_the_clusters_where_that_is_asked_for(tmp_path: Path) -> None:
    """A cluster that grows needs a larger one, and its operator changes the configuration only."""

    async def min_isr(**changes: str) -> str:
        async with running(tmp_path, **changes) as node:
            return node.metadata.image.config(BROKER, "")[MIN_ISR]

    async def run() -> None:
        assert await min_isr(min_insync_replicas="1") == "1"
        assert await min_isr(min_insync_replicas="2") == "1", "as Kafka has it"
        followed = {"broadsheet_min_insync_replicas_of_cluster": "true"}
        assert await min_isr(min_insync_replicas="2", **followed) == "2"

    asyncio.run(run())


def test_min_isr_of_the_configuration_and_who_is_eligible_by_it_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large cluster they came in parts: a controller that died between two of them left partitions that no broker
    leads without anybody to lead them."""
    monkeypatch.setattr(active, "MAX_RECORDS", 1)
    appended: list[list[str]] = []
    append = active.ActiveController.append

    def listening(self: active.ActiveController, records: Sequence[Any]) -> asyncio.Future[None]:
        appended.append([type(record).__name__ for record in records])
        return append(self, records)

    async def run() -> None:
        async with running(tmp_path, min_insync_replicas="1"):
            pass
        monkeypatch.setattr(active.ActiveController, "append", listening)
        async with running(tmp_path, min_insync_replicas="2", broadsheet_min_insync_replicas_of_cluster="true"):
            pass

    asyncio.run(run())
    assert ["ConfigRecord", "ClearElrRecord"] in appended


def test_a_larger_min_isr_of_the_configuration_clears_who_was_eligible() -> None:
    image = fenced(elr_cluster(isr=[1, 2], leader=1, fenced=(3,)), 2)
    changed = after(image, follow_configuration(image, 3))
    assert changed.config(BROKER, "") == {MIN_ISR: "3"} and state_of(changed) == (1, (1,), (), ())
    assert follow_configuration(changed, 3) == []
    assert follow_configuration(three(isr=[1], leader=1), 3) == []


@pytest.mark.parametrize(
    ("release", "features", "level"),
    [
        (None, {}, 1),
        ("4.1", {}, 1),
        ("4.0", {}, None),
        ("3.9", {}, None),
        (None, {FEATURE: 0}, None),
        ("4.0", {FEATURE: 1}, 1),
    ],
)
def test_formatting_chooses_the_feature_as_kafka_does(
    tmp_path: Path, release: str | None, features: dict[str, int], level: int | None
) -> None:
    async def run() -> None:
        env = environment()
        format_directories(env, broker_config(tmp_path), CLUSTER_ID, release=release, features=features)
        records = first_records(env, str(tmp_path), 2)
        levels = {r.name: r.feature_level for r in records if type(r) is FeatureLevelRecord}
        assert levels.get(FEATURE) == level
        assert any(type(r) is ConfigRecord for r in records) == bool(level)

    asyncio.run(run())


def test_formatting_refuses_the_feature_for_releases_that_do_not_know_it(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(StorageError, match=r"depends on metadata\.version level 23"):
            format_directories(environment(), broker_config(tmp_path), CLUSTER_ID, release="3.9", features={FEATURE: 1})

    asyncio.run(run())
