"""The metadata log: what is answered is there after a restart, however the node went."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import uuid
from pathlib import Path

import pytest

from broadsheet_broker.metadata import MetadataCache
from broadsheet_broker.node import MetadataNode
from broadsheet_broker.storage_tool import load_identity
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from broadsheet_broker.wire.messages.incremental_alter_configs_response import IncrementalAlterConfigsResponse
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from tests.support.controllers import (
    broker_config,
    durable,
    environment,
    metadata_files,
    running,
    start,
)
from tests.support.memory_files import MemoryFiles


async def fill(node) -> None:  # type: ignore[no-untyped-def]
    for index in range(20):
        assert (await node.create(f"topic-{index}", partitions=index % 4 + 1)).error_code == 0
    await node.controller.order(
        DeleteTopicsRequest(topics=[DeleteTopicState(name="topic-3")], timeout_ms=1), DeleteTopicsResponse
    )
    await node.controller.order(
        IncrementalAlterConfigsRequest(
            resources=[
                AlterConfigsResource(
                    resource_type=2,
                    resource_name="topic-4",
                    configs=[AlterableConfig(name="retention.ms", config_operation=0, value="1234")],
                )
            ]
        ),
        IncrementalAlterConfigsResponse,
    )
    await node.controller.producer_ids.next()


def test_image_is_the_same_after_a_clean_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await fill(node)
            before = durable(node.metadata.image)
            epochs = [p.leader_epoch for p in node.metadata.image.topics_by_name["topic-4"].partitions]
        async with running(tmp_path) as node:
            assert durable(node.metadata.image) == before
            again = [p.leader_epoch for p in node.metadata.image.topics_by_name["topic-4"].partitions]
            assert all(new > old for new, old in zip(again, epochs, strict=True)), "a restart begins new leader epochs"
            assert node.controller.raft.epoch == 2
            assert await node.controller.producer_ids.next() >= 1000, "producer ids are never handed out twice"

    asyncio.run(run())


def test_image_is_the_same_after_a_kill_that_tore_the_tail(tmp_path: Path) -> None:
    async def run() -> None:
        killed = await start(tmp_path)
        await fill(killed)
        before = durable(killed.metadata.image)
        (segment,) = metadata_files(tmp_path, ".log")
        whole = segment.read_bytes()
        segment.write_bytes(whole + whole[-100:-40])  # half of a batch, as a kill in the middle of a write leaves it
        async with running(tmp_path) as node:
            assert durable(node.metadata.image) == before
            assert segment.read_bytes()[: len(whole)] == whole
            assert (await node.create("after")).error_code == 0

    asyncio.run(run())


def test_image_is_the_same_from_a_snapshot(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await fill(node)
            assert await node.controller.raft.write_snapshot() is not None
            assert (await node.create("after-the-snapshot")).error_code == 0
            before = durable(node.metadata.image)
        assert len(metadata_files(tmp_path, ".checkpoint")) == 1
        async with running(tmp_path) as node:
            assert durable(node.metadata.image) == before

    asyncio.run(run())


def test_log_before_an_old_snapshot_is_let_go(tmp_path: Path) -> None:
    limits = {
        "metadata_log_max_record_bytes_between_snapshots": "3000",
        "metadata_max_retention_bytes": "4000",
        "metadata_log_segment_bytes": "8388608",
    }

    async def run() -> None:
        async with running(tmp_path, **limits) as node:
            for index in range(60):
                await node.create(f"topic-{index}")
            before = durable(node.metadata.image)
            assert node.controller.raft.storage.log.log_start_offset > 0
        assert len(metadata_files(tmp_path, ".checkpoint")) >= 1
        async with running(tmp_path, **limits) as node:
            assert durable(node.metadata.image) == before

    asyncio.run(run())


def test_a_damaged_newest_snapshot_is_passed_over_for_an_older_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await fill(node)
            await node.controller.raft.write_snapshot()
            await node.create("later")
            await node.controller.raft.write_snapshot()
            before = durable(node.metadata.image)
        newest = metadata_files(tmp_path, ".checkpoint")[-1]
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 0xFF
        newest.write_bytes(data)
        async with running(tmp_path) as node:
            assert durable(node.metadata.image) == before

    asyncio.run(run())


def test_a_full_disk_refuses_orders_and_forgets_them() -> None:
    async def run() -> None:
        env = environment()
        files = env.files = MemoryFiles()  # type: ignore[assignment]
        node = await start(Path("/data"), env)
        files.capacity = 1
        with pytest.raises(KafkaError, match="the disk is full") as caught:
            await node.create("orders")
        assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert "orders" not in node.metadata.image.topics_by_name
        files.capacity = None
        assert (await node.create("orders")).error_code == 0, "the refused name is free"
        await node.controller.stop()

    asyncio.run(run())


def test_an_order_is_refused_when_a_reader_ran_into_the_full_disk_first() -> None:
    """A follower's fetch makes the log write what is queued: the order must not wait for ever, half forgotten."""

    async def run() -> None:
        env = environment()
        files = env.files = MemoryFiles()  # type: ignore[assignment]
        node = await start(Path("/data"), env)
        files.capacity = 1
        log = node.controller.raft.storage.log
        end = log.log_end_offset
        order = node.controller.active.append([TopicRecord(name="orders", topic_id=uuid.uuid4())])
        with contextlib.suppress(KafkaError):
            log.read(end, 1000)
        with pytest.raises(KafkaError) as caught:
            await asyncio.wait_for(order, 10)
        assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert "orders" not in node.controller.active.pending.topics_by_name
        files.capacity = None
        assert (await node.create("orders")).error_code == 0
        await node.controller.stop()

    asyncio.run(run())


def test_after_a_failed_fsync_the_node_no_longer_leads() -> None:
    async def run() -> None:
        env = environment()
        files = env.files = MemoryFiles()  # type: ignore[assignment]
        node = await start(Path("/data"), env)
        failures: list[KafkaError] = []
        node.controller.on_failure = failures.append
        files.fault = lambda operation, path: errno.EIO if operation == "sync" else None
        with pytest.raises(KafkaError) as caught:
            await node.create("orders")
        assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert not node.controller.raft.is_leader
        assert [error.code for error in failures] == [ErrorCode.KAFKA_STORAGE_ERROR]
        with pytest.raises(KafkaError):
            await node.create("payments")
        await node.controller.stop()

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_what_was_answered_survives_a_loss_of_power(seed: int) -> None:
    async def run() -> None:
        env = environment()
        files = env.files = MemoryFiles()  # type: ignore[assignment]
        node = await start(Path("/data"), env)
        created = set()
        for index in range(seed % 5 + 1):
            await node.create(f"topic-{index}")
            created.add(f"topic-{index}")
        lost = [asyncio.ensure_future(node.create(f"lost-{index}")) for index in range(3)]
        await asyncio.sleep(0)
        files.lose_power(random.Random(seed))
        await asyncio.gather(*lost, return_exceptions=True)
        again = environment()
        again.files = files  # type: ignore[assignment]
        node = await start(Path("/data"), again)
        assert created <= set(node.metadata.image.topics_by_name)
        await node.controller.stop()

    asyncio.run(run())


def test_many_concurrent_orders_share_fsyncs(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            syncs = 0
            real = type(node.controller.raft.storage.log).sync

            def counted(log: object) -> None:
                nonlocal syncs
                syncs += 1
                real(log)  # type: ignore[arg-type]

            type(node.controller.raft.storage.log).sync = counted  # type: ignore[method-assign]
            try:
                results = await asyncio.gather(*(node.create(f"t{index}") for index in range(300)))
            finally:
                type(node.controller.raft.storage.log).sync = real  # type: ignore[method-assign]
            assert all(result.error_code == 0 for result in results)
            assert syncs < 30
            assert len(node.metadata.image.topics_by_name) == 300

    asyncio.run(run())


def test_publication_comes_before_the_answer(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            heard: list[set[str]] = []
            node.metadata.subscribe(
                lambda delta, image: heard.append({topic.name for topic in delta.changed_topics.values()})
            )
            await node.create("orders", partitions=3)
            assert heard == [{"orders"}]
            assert len(node.metadata.image.topics_by_name["orders"].partitions) == 3

    asyncio.run(run())


def test_a_dynamic_quorum_of_one_keeps_its_voter_in_the_log(tmp_path: Path) -> None:
    changes = {"controller_quorum_voters": "", "controller_quorum_bootstrap_servers": "localhost:9093"}

    async def run() -> None:
        for restart in range(3):
            async with running(tmp_path, **changes) as node:
                assert node.controller.raft.voters.dynamic
                assert node.controller.raft.voters.ids == [1]
                assert (await node.create(f"topic-{restart}")).error_code == 0
                assert len(node.metadata.image.topics_by_name) == restart + 1
                await node.controller.raft.write_snapshot()
        assert '"data_version":1' in (tmp_path / "__cluster_metadata-0" / "quorum-state").read_text()

    asyncio.run(run())


def test_a_metadata_log_that_is_damaged_in_the_middle_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await fill(node)
        (segment,) = metadata_files(tmp_path, ".log")
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0xFF
        segment.write_bytes(data)
        env = environment()
        config = broker_config(tmp_path)
        controller = MetadataNode(env, config, MetadataCache(config), load_identity(env, config))
        with pytest.raises(KafkaError, match=str(segment)):
            await controller.start()
        await controller.stop()
        assert segment.read_bytes() == data

    asyncio.run(run())
