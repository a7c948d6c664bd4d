"""The directories of a broker: start, stop, crash, deletion, lost disks."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broadsheet_broker.log import CorruptLogError, Log, LogConfig, LogManager, LogManagerSettings, StorageError
from broadsheet_broker.log.checkpoints import read_offsets
from tests.log.support import NOW_MS, append, batch, keyed, values_of
from tests.support.memory_environment import MemoryEnvironment, memory_environment
from tests.support.waiting import until

ORDERS = uuid.UUID(int=77)
CONFIG = LogConfig(segment_bytes=400, index_interval_bytes=0)
ROOT = "/logs"


def run(environment: MemoryEnvironment, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        environment.loop = asyncio.get_running_loop()
        await scenario()

    asyncio.run(main())


def manager_of(
    environment: MemoryEnvironment, *directories: str, config: LogConfig = CONFIG, **settings: Any
) -> LogManager:
    return LogManager(
        environment,
        list(directories) or [ROOT],
        config_for=lambda topic: config,
        settings=LogManagerSettings(**settings),
    )


async def no_deleted_directory(environment: MemoryEnvironment) -> None:
    for _ in range(1000):
        if not any(name.endswith("-delete") for name in environment.files.list(ROOT)):
            return
        await asyncio.sleep(0)
    raise AssertionError("a deleted log is still there")


def test_logs_are_there_again_after_a_clean_stop() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        for partition in range(5):
            log = manager.get_or_create("orders", partition, ORDERS, CONFIG)
            append(log, batch(f"value {partition}"))
        await manager.close(broker_epoch=42)
        assert environment.files.read_bytes(f"{ROOT}/.kafka_cleanshutdown") == b'{"version":0,"brokerEpoch":42}'
        assert read_offsets(environment.files, f"{ROOT}/recovery-point-offset-checkpoint")["orders", 3] == 1
        again = manager_of(environment)
        await again.start()
        assert again.previous_broker_epoch == 42
        assert not environment.files.exists(f"{ROOT}/.kafka_cleanshutdown")
        assert len(again) == 5
        log = again.get_or_create("orders", 3, ORDERS, CONFIG)
        assert (log.topic_id, values_of(log)) == (ORDERS, [(0, "value 3")])
        await again.close()

    run(environment, scenario)


def test_a_directory_in_use_is_an_error_that_says_so() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        first = manager_of(environment)
        await first.start()
        with pytest.raises(StorageError, match="another process"):
            await manager_of(environment).start()
        await first.close()
        await manager_of(environment).start()

    run(environment, scenario)


def test_after_a_crash_every_log_is_recovered_and_a_corrupt_one_stays_offline_alone() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        for partition in range(3):
            log = manager.get_or_create("orders", partition, ORDERS, CONFIG)
            for value in "ab":
                append(log, batch(value * 50))
        environment.files.kill()
        environment.files.open(f"{ROOT}/orders-1/{0:020d}.log").write(70, b"?")
        again = manager_of(environment)
        await again.start()
        assert [log.partition for log in again] == [0, 2]
        assert isinstance(again.failure("orders", 1), CorruptLogError)
        with pytest.raises(CorruptLogError, match="orders-1"):
            again.get_or_create("orders", 1, ORDERS, CONFIG)
        # A clean stop must not make the next start trust that log.
        await again.close()
        third = manager_of(environment)
        await third.start()
        assert isinstance(third.failure("orders", 1), CorruptLogError)
        # When its topic is deleted it is moved aside, and a new topic of that name may come.
        third.delete("orders", 1)
        assert [name for name in environment.files.list(ROOT) if name.endswith("-stray")]
        assert third.get_or_create("orders", 1, uuid.UUID(int=78), CONFIG).log_end_offset == 0
        await third.close()

    run(environment, scenario)


def test_a_deleted_log_is_gone_at_once_and_its_files_later() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        config = LogConfig(file_delete_delay_ms=0)
        manager = manager_of(environment)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, config)
        append(log, batch("a"))
        await manager.housekeeping.checkpoint_recovery_points()
        log.sync()
        await manager.housekeeping.checkpoint_recovery_points()
        manager.delete("orders", 0)
        assert manager.get("orders", 0) is None
        with pytest.raises(StorageError):
            log.read(0, 100)
        assert not environment.files.exists(f"{ROOT}/orders-0")
        again = manager.get_or_create("orders", 0, uuid.UUID(int=78), config)
        assert again.log_end_offset == 0
        await no_deleted_directory(environment)
        # The old checkpoint does not make the new log look short.
        environment.files.kill()
        third = manager_of(environment)
        await third.start()
        assert third.get_or_create("orders", 0, uuid.UUID(int=78), config).log_end_offset == 0
        await third.close()

    run(environment, scenario)


def test_an_interrupted_deletion_is_finished_at_the_next_start() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        append(manager.get_or_create("orders", 0, ORDERS, CONFIG), batch("a"))
        manager.delete("orders", 0)
        environment.files.kill()
        again = manager_of(environment)
        await again.start()
        await no_deleted_directory(environment)
        assert len(again) == 0
        await again.close()

    run(environment, scenario)


def test_a_log_of_an_earlier_topic_of_that_name_is_moved_aside_not_deleted() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        append(manager.get_or_create("orders", 0, ORDERS, CONFIG), batch("a"))
        fresh = manager.get_or_create("orders", 0, uuid.UUID(int=78), CONFIG)
        assert fresh.log_end_offset == 0
        assert [name for name in environment.files.list(ROOT) if name.endswith("-stray")]
        await manager.close()
        again = manager_of(environment)
        await again.start()
        assert len(again) == 1
        await again.close()

    run(environment, scenario)


def test_a_lost_disk_goes_offline_alone() -> None:
    environment = memory_environment()
    environment.files.make_directory("/other")

    async def scenario() -> None:
        lost: list[str] = []
        manager = manager_of(environment, ROOT, "/other")
        manager.on_directory_failure = lambda path, error: lost.append(path)
        await manager.start()
        logs = [manager.get_or_create("orders", partition, ORDERS, CONFIG) for partition in range(4)]
        assert sorted(log.directory.split("/")[1] for log in logs) == ["logs", "logs", "other", "other"]
        environment.files.fault = lambda operation, path: (
            errno.EIO if operation == "append" and path.startswith("/other/") else None
        )
        for log in logs:
            log.append_as_leader(batch("a"), 0, NOW_MS)
            if log.directory.startswith("/other"):
                with pytest.raises(StorageError):
                    log.flush_appends()
            else:
                log.flush_appends()
        await asyncio.sleep(0)
        assert lost == ["/other"]
        assert manager.directories == [ROOT]
        assert len(manager) == 2
        bad = next(log for log in logs if log.directory.startswith("/other"))
        with pytest.raises(StorageError):
            bad.read(0, 100)
        assert manager.failure("orders", bad.partition) is not None
        await manager.close()

    run(environment, scenario)


def test_a_log_directory_that_was_removed_is_not_made_again_by_the_next_log() -> None:
    """It would stand there with the new logs and without meta.properties: the next start could only refuse it."""
    environment = memory_environment()
    environment.files.make_directory("/other")

    async def scenario() -> None:
        lost: list[str] = []
        manager = manager_of(environment, ROOT, "/other")
        manager.on_directory_failure = lambda path, error: lost.append(path)
        await manager.start()
        manager.get_or_create("orders", 0, ORDERS, CONFIG)
        environment.files.rename(ROOT, "/away")
        with pytest.raises(StorageError, match="no log can be made here"):
            for partition in range(1, 3):
                manager.get_or_create("orders", partition, ORDERS, CONFIG)
        await asyncio.sleep(0)
        assert lost == [ROOT]
        assert manager.directories == ["/other"]
        assert not environment.files.exists(ROOT)
        await manager.close(clean=False)

    run(environment, scenario)


def test_an_unreadable_directory_leaves_the_others_and_all_unreadable_stop_the_start() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        environment.files.fault = lambda operation, path: errno.EACCES if path.startswith("/bad") else None
        manager = manager_of(environment, "/bad", ROOT)
        await manager.start()
        assert manager.directories == [ROOT]
        assert "/bad" in manager.offline_directories
        await manager.close()
        with pytest.raises(StorageError, match="/bad"):
            await manager_of(environment, "/bad").start()

    run(environment, scenario)


def test_a_damaged_checkpoint_costs_a_recovery_and_no_data() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        append(manager.get_or_create("orders", 0, ORDERS, CONFIG), batch("a"))
        await manager.close()
        environment.files.replace(f"{ROOT}/recovery-point-offset-checkpoint", b"\x00\x00nonsense")
        again = manager_of(environment)
        await again.start()
        log = again.get("orders", 0)
        assert log is not None
        assert values_of(log) == [(0, "a")]
        await again.close()

    run(environment, scenario)


def test_retention_and_checkpoints_run_from_time_to_time() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        config = LogConfig(segment_bytes=400, retention_ms=1000)
        manager = manager_of(environment, config=config)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, config)
        for number in range(20):
            append(log, batch(f"{number}" * 30))
        environment.clock.now_ms += 5000
        await manager.housekeeping.check_retention()
        assert log.log_start_offset == 20
        assert not [name for name in environment.files.list(log.directory) if name.endswith(".deleted")]
        await manager.housekeeping.checkpoint_recovery_points()
        assert read_offsets(environment.files, f"{ROOT}/recovery-point-offset-checkpoint") == {("orders", 0): 20}
        append(log, batch("x", "y"))
        log.advance_log_start_offset(21, 22)
        await manager.housekeeping.checkpoint_log_start_offsets()
        assert read_offsets(environment.files, f"{ROOT}/log-start-offset-checkpoint") == {("orders", 0): 21}
        environment.files.kill()
        again = manager_of(environment, config=config)
        await again.start()
        assert again.get_or_create("orders", 0, ORDERS, config).log_start_offset == 21
        await again.close()

    run(environment, scenario)


def test_the_dirtiest_log_is_compacted_and_the_checkpoint_says_how_far() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        config = LogConfig(segment_bytes=400, cleanup_policy=frozenset(("compact",)))
        manager = manager_of(environment, config=config)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, config)
        for number in range(30):
            append(log, keyed(("key", f"{number}")))
        size = log.size
        await manager.cleaner.run()
        assert log.size < size / 2
        assert values_of(log)[-1] == (29, "29")
        path = f"{ROOT}/cleaner-offset-checkpoint"
        assert read_offsets(environment.files, path) == {("orders", 0): log.segments[-1].base_offset}
        await manager.cleaner.run()
        await manager.close()

    run(environment, scenario)


COMPACT = LogConfig(segment_bytes=400, cleanup_policy=frozenset(("compact",)), index_interval_bytes=0)


def compacted(
    config: LogConfig, scenario: Callable[[LogManager, Log, MemoryEnvironment], Awaitable[None]], **settings: Any
) -> None:
    environment = memory_environment()

    async def main() -> None:
        manager = manager_of(environment, config=config, **settings)
        await manager.start()
        await scenario(manager, manager.get_or_create("orders", 0, ORDERS, config), environment)
        await manager.close()

    run(environment, main)


def test_an_old_value_is_gone_when_the_lag_of_compaction_is_over() -> None:
    """With a ratio that is never reached; the time of a segment is that of its first batch, not of its file."""
    config = dataclasses.replace(COMPACT, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=2000)

    async def scenario(manager: LogManager, log: Log, environment: MemoryEnvironment) -> None:
        append(log, keyed(("user", "old")))
        append(log, keyed(("user", None)))
        append(log, keyed(("other", "a"), timestamp=NOW_MS + 1000))
        await manager.cleaner.run()
        assert values_of(log) == [(0, "old"), (1, None), (2, "a")]
        environment.clock.now_ms = NOW_MS + 2001
        append(log, keyed(("other", "b"), timestamp=NOW_MS + 2001))
        assert log.segments[0].created_ms == NOW_MS
        log.segments[0].created_ms = NOW_MS + 2001  # as after a restart, or when another replica was copied
        await manager.cleaner.run()
        assert values_of(log) == [(1, None), (2, "a"), (3, "b")]

    compacted(config, scenario)


def test_a_segment_whose_keys_did_not_fit_the_map_is_finished_later() -> None:
    """The pass ends within the segment, and nothing more is written: the rest of it is dirty still."""
    config = dataclasses.replace(COMPACT, segment_bytes=100_000, min_cleanable_dirty_ratio=0.4)

    async def scenario(manager: LogManager, log: Log, environment: MemoryEnvironment) -> None:
        for number in range(40):
            append(log, keyed((f"{number % 20}", f"{number}")))
        log.roll(NOW_MS)
        await manager.cleaner.run()
        assert [offset for offset, _ in values_of(log)] == list(range(20, 40))

    compacted(config, scenario, cleaner_dedupe_buffer_bytes=1000)


def test_a_young_clean_segment_does_not_hold_back_the_dirty_ones() -> None:
    """min.compaction.lag.ms is for what is dirty: a producer with a wrong clock stops nothing once it is cleaned."""
    config = dataclasses.replace(COMPACT, min_compaction_lag_ms=60_000)

    async def scenario(manager: LogManager, log: Log, environment: MemoryEnvironment) -> None:
        append(log, keyed(("fast", "a"), timestamp=NOW_MS + 3_000_000))
        log.roll(NOW_MS)
        log.reconfigure(COMPACT)
        await manager.cleaner.run()
        log.reconfigure(config)
        for number in range(10):
            append(log, keyed(("key", f"{number}"), timestamp=NOW_MS))
        log.roll(NOW_MS)
        environment.clock.now_ms = NOW_MS + 60_001
        await manager.cleaner.run()
        assert [value for _, value in values_of(log)] == ["a", "9"]

    compacted(config, scenario)


def test_compaction_makes_no_index_that_is_larger_than_it_may_be() -> None:
    """segment.index.bytes holds for the segments that compaction joins."""
    config = dataclasses.replace(COMPACT, segment_bytes=300, segment_index_bytes=24)

    async def scenario(manager: LogManager, log: Log, environment: MemoryEnvironment) -> None:
        for number in range(30):
            append(log, keyed((f"{number}", "value"), timestamp=NOW_MS + number))
        log.roll(NOW_MS)
        log.reconfigure(dataclasses.replace(config, segment_bytes=10_000))
        await manager.cleaner.run()
        for segment in log.segments[:-1]:
            assert environment.files.size(segment.stem + ".index") <= 24
            assert environment.files.size(segment.stem + ".timeindex") <= 24

    compacted(config, scenario)


def test_compacted_logs_are_looked_after_whenever_the_cleaner_runs() -> None:
    """log.cleaner.backoff.ms, not log.retention.check.interval.ms: old segments go, and segments are closed in time."""
    policy = frozenset(("compact", "delete"))
    config = dataclasses.replace(COMPACT, cleanup_policy=policy, retention_ms=5000, max_compaction_lag_ms=1000)

    async def scenario(manager: LogManager, log: Log, environment: MemoryEnvironment) -> None:
        append(log, keyed(("key", "old")))
        log.roll(NOW_MS)
        append(log, keyed(("key", "new"), timestamp=NOW_MS + 4000))
        environment.clock.now_ms = NOW_MS + 5001
        await until(lambda: log.log_start_offset == 1 and len(log.segments) == 2)
        assert [segment.base_offset for segment in log.segments] == [1, 2]

    compacted(config, scenario, cleaner_backoff_ms=1)


def test_logs_are_synced_as_often_as_the_two_settings_say() -> None:
    """flush.ms says how old, log.flush.scheduler.interval.ms how often that is looked at."""
    environment = memory_environment()

    async def scenario() -> None:
        config = LogConfig(flush_ms=500)
        manager = manager_of(environment, config=config, flush_scheduler_interval_ms=1)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, config)
        append(log, batch("a"))
        environment.clock.now_ms = NOW_MS + 499
        await manager.housekeeping.flush_dirty_logs()
        assert log.recovery_point == 0
        environment.clock.now_ms = NOW_MS + 500
        await until(lambda: log.recovery_point == 1)
        await manager.close()

    run(environment, scenario)


def test_producers_are_remembered_over_a_restart_for_as_long_as_is_set() -> None:
    """producer.id.expiration.ms: a duplicate of yesterday must not be written today, only because of a restart."""
    environment = memory_environment()
    week = 7 * 24 * 3600 * 1000

    async def scenario() -> None:
        manager = manager_of(environment, producer_id_expiration_ms=week)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, CONFIG)
        append(log, batch("a", producer_id=7, producer_epoch=0, base_sequence=0))
        await manager.close()
        for later, known in ((week - 1, [7]), (week, [])):
            environment.clock.now_ms = NOW_MS + later
            manager = manager_of(environment, producer_id_expiration_ms=week)
            await manager.start()
            found = manager.get("orders", 0)
            assert found is not None
            assert [entry.producer_id for entry in found.active_producers()] == known
            await manager.close()

    run(environment, scenario)


def test_the_cleaner_leaves_alone_what_it_cannot_read() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        config = LogConfig(segment_bytes=400, cleanup_policy=frozenset(("compact",)))
        manager = manager_of(environment, config=config)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, config)
        for number in range(30):
            append(log, keyed(("key", f"{number}")))
        environment.files.open(log.segments[0].path).write(16, b"\x07")
        await manager.cleaner.run()
        assert ("orders", 0) in manager.cleaner.uncleanable
        await manager.close()

    run(environment, scenario)


def test_a_thousand_partitions_hold_a_bounded_number_of_descriptors() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment, open_files=50)
        await manager.start()
        for partition in range(1000):
            append(manager.get_or_create("orders", partition, ORDERS, CONFIG), batch("a"))
        assert environment.files.open_count <= 50
        assert all(values_of(log) == [(0, "a")] for log in manager)
        assert environment.files.open_count <= 50
        await manager.close()
        assert environment.files.open_count == 0

    run(environment, scenario)
