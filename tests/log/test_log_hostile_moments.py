"""Deletions, full disks and timers at the worst moment: nothing else may suffer, and no promise is made."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import uuid
from pathlib import Path

import pytest

from broadsheet_broker.log import Log, LogConfig, StorageError
from broadsheet_broker.log.checkpoints import read_offsets
from broadsheet_broker.log.cleaner import Cleaning
from broadsheet_broker.log.log_directory import LogDirectory
from broadsheet_broker.log.segment import Segment
from broadsheet_broker.seams import LocalFiles
from broadsheet_broker.seams.steps import Stepwise
from broadsheet_broker.wire.primitives import uuid_text
from tests.log.support import DIRECTORY, NOW_MS, append, batch, keyed, open_log, values_of
from tests.log.test_log_manager import CONFIG, ORDERS, ROOT, manager_of, run
from tests.support.memory_environment import memory_environment

AGAIN = uuid.UUID(int=78)
DAY = 24 * 3600 * 1000


def test_a_topic_deleted_between_an_append_and_its_write_costs_nothing_but_that_append() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        other = manager.get_or_create("other", 0, uuid.UUID(int=9), CONFIG)
        log = manager.get_or_create("orders", 0, ORDERS, CONFIG)
        append(log, batch("a"))
        log.append_as_leader(batch("b"), 0, NOW_MS)
        manager.delete("orders", 0)
        with pytest.raises(StorageError):
            log.flush_appends()
        await asyncio.sleep(0)
        assert manager.directories == [ROOT]
        append(other, batch("c"))
        await manager.close()

    run(environment, scenario)


def test_what_was_appended_to_a_deleted_topic_is_not_written_into_the_next_one_of_that_name() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        old = manager.get_or_create("orders", 0, ORDERS, CONFIG)
        old.append_as_leader(batch("old"), 0, NOW_MS)
        manager.delete("orders", 0)
        new = manager.get_or_create("orders", 0, AGAIN, CONFIG)
        with pytest.raises(StorageError):
            old.flush_appends()
        append(new, batch("new"))
        assert values_of(new) == [(0, "new")]
        assert environment.files.size(new.segments[0].path) == new.size
        await manager.close()

    run(environment, scenario)


def test_a_sync_that_meets_a_deletion_does_not_take_the_directory_offline() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, CONFIG)
        append(log, batch("a"))
        manager.delete("orders", 0)
        with pytest.raises(StorageError):
            log.sync()  # as the thread does that had begun before the deletion
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert manager.directories == [ROOT]
        await manager.close()

    run(environment, scenario)


def test_a_topic_can_be_deleted_on_a_full_disk() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        for partition in range(2):
            append(manager.get_or_create("orders", partition, ORDERS, CONFIG), batch("a"))
            manager.get_or_create("orders", partition, ORDERS, CONFIG).sync()
        await manager.housekeeping.checkpoint_recovery_points()
        environment.files.capacity = environment.files.used_bytes()
        manager.delete("orders", 0)
        assert manager.directories == [ROOT]
        with pytest.raises(StorageError, match="No space left"):
            manager.get_or_create("orders", 0, AGAIN, CONFIG)
        assert manager.directories == [ROOT]
        environment.files.capacity = None
        new = manager.get_or_create("orders", 0, AGAIN, CONFIG)
        assert new.log_end_offset == 0
        assert ("orders", 0) not in read_offsets(environment.files, f"{ROOT}/recovery-point-offset-checkpoint")
        await manager.close()

    run(environment, scenario)


def test_a_checkpoint_under_way_does_not_bring_back_what_was_forgotten_meanwhile() -> None:
    environment = memory_environment()
    directory = LogDirectory(environment, ROOT)
    directory.prepare()
    stale = {("orders", 0): 5000}
    began = directory.changes
    directory.forget(("orders", 0))  # deleted, and perhaps made again, while the thread was waiting for its turn
    directory.store_log_start_offsets(stale, began)
    directory.store_recovery_points(stale, began)
    assert directory.log_start_offsets == directory.recovery_points == {}
    assert read_offsets(environment.files, f"{ROOT}/log-start-offset-checkpoint") == {}
    directory.store_recovery_points(stale, directory.changes)
    assert read_offsets(environment.files, f"{ROOT}/recovery-point-offset-checkpoint") == stale


def test_retention_does_not_take_new_records_without_timestamps_from_an_old_segment() -> None:
    environment = memory_environment()
    log = open_log(environment, config=LogConfig(retention_ms=DAY, segment_ms=7 * DAY))
    append(log, batch("old", timestamp=-1))
    environment.clock.now_ms += 2 * DAY
    append(log, batch("new", timestamp=-1), now_ms=environment.clock.now_ms)
    assert log.delete_old_segments(environment.clock.now_ms, log.log_end_offset) == 0
    assert [value for _, value in values_of(log)] == ["old", "new"]
    environment.clock.now_ms += 2 * DAY
    assert log.delete_old_segments(environment.clock.now_ms, log.log_end_offset) == 1


def test_a_directory_that_only_happens_to_end_in_delete_is_not_removed() -> None:
    environment = memory_environment()
    for name in ("please-do-not-delete", "backup-0-delete", "orders-0.0123456789abcdef0123456789abcdef-delete"):
        environment.files.make_directory(f"{ROOT}/{name}")

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        for _ in range(10):
            await asyncio.sleep(0)
        await manager.close()

    run(environment, scenario)
    left = [name for name in environment.files.list(ROOT) if name.endswith("-delete")]
    assert left == ["backup-0-delete", "please-do-not-delete"]


def test_running_out_of_descriptors_does_not_cost_the_directory() -> None:
    environment = memory_environment()
    failures: list[StorageError] = []
    log = open_log(environment)
    append(log, batch("a"))
    log.segments.on_failure = failures.append
    log.segments.pool.close(log.segments[-1])
    environment.files.fault = lambda operation, path: errno.EMFILE if operation == "open" else None
    log.append_as_leader(batch("b"), 0, NOW_MS)
    with pytest.raises(StorageError):
        log.flush_appends()
    with pytest.raises(StorageError):
        log.sync()
    environment.files.fault = None
    assert not failures
    assert append(log, batch("c")).first_offset == 1
    assert values_of(log) == [(0, "a"), (1, "c")]


def test_a_failed_fsync_that_a_reader_ran_into_is_told_to_the_appender() -> None:
    environment = memory_environment()
    log = open_log(environment, config=LogConfig(flush_messages=1))
    environment.files.fault = lambda operation, path: (
        errno.EIO if operation == "sync" and path.startswith(DIRECTORY) else None
    )
    log.append_as_leader(batch("a"), 0, NOW_MS)
    with contextlib.suppress(StorageError):
        log.read(0, 1000)
    with pytest.raises(StorageError):
        log.flush_appends()


def test_a_log_that_cannot_be_opened_for_any_reason_does_not_stop_the_start() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        append(manager.get_or_create("orders", 0, ORDERS, CONFIG), batch("a"))
        append(manager.get_or_create("other", 0, AGAIN, CONFIG), batch("b"))
        await manager.close()

        def config_for(topic: str) -> LogConfig:
            if topic == "other":
                raise ValueError("retention.ms=soon: not a number")
            return CONFIG

        again = manager_of(environment)
        again.config_for = config_for
        await again.start()
        assert again.get("orders", 0) is not None
        assert again.failure("other", 0) is not None
        await again.close()

    run(environment, scenario)


def test_a_partition_of_an_unreadable_directory_is_not_made_anew_elsewhere() -> None:
    environment = memory_environment()
    environment.files.make_directory("/other")

    async def scenario() -> None:
        manager = manager_of(environment, ROOT, "/other")
        await manager.start()
        for partition in range(2):
            append(manager.get_or_create("orders", partition, ORDERS, CONFIG), batch("a"))
        assert environment.files.exists("/other/orders-1")
        await manager.close()
        environment.files.fault = lambda operation, path: errno.EIO if path.startswith("/other") else None
        again = manager_of(environment, ROOT, "/other")
        await again.start()
        assert again.get_or_create("orders", 0, ORDERS, CONFIG).log_end_offset == 1
        with pytest.raises(StorageError, match="/other"):
            again.get_or_create("orders", 1, ORDERS, CONFIG)
        again.complete = True
        assert again.get_or_create("new", 0, AGAIN, CONFIG).log_end_offset == 0
        with pytest.raises(StorageError, match="/other"):
            again.get_or_create("orders", 1, ORDERS, CONFIG)  # its partition has changed, and is still no new one
        await again.close()

    run(environment, scenario)


def test_a_partition_is_made_where_the_cluster_has_it_and_nowhere_else_while_a_directory_is_away() -> None:
    environment = memory_environment()
    here, away = uuid.UUID(int=901), uuid.UUID(int=902)
    for path, directory_id in ((ROOT, here), ("/other", away)):
        environment.files.make_directory(path)
        environment.files.replace(f"{path}/meta.properties", f"directory.id={uuid_text(directory_id)}".encode())

    async def scenario() -> None:
        manager = manager_of(environment, ROOT, "/other")
        await manager.start()
        for index, directory_id in enumerate((away, away, here)):
            made = manager.get_or_create("orders", index, ORDERS, CONFIG, directory_id)
            assert made.directory.startswith("/other/" if directory_id == away else ROOT)
        replaced = manager.get_or_create("orders", 3, ORDERS, CONFIG, uuid.UUID(int=903))
        assert replaced.log_end_offset == 0, "every directory is here, so its disk was replaced"
        await manager.close()
        environment.files.fault = lambda operation, path: errno.EIO if path.startswith("/other") else None
        again = manager_of(environment, ROOT, "/other")
        await again.start()
        again.complete = True
        with pytest.raises(StorageError, match="orders-0 may be in /other"):
            again.get_or_create("orders", 0, ORDERS, CONFIG, away)
        assert again.get_or_create("orders", 9, ORDERS, CONFIG, here).log_end_offset == 0
        await again.close()

    run(environment, scenario)


@pytest.mark.pure("a method of a compiled class cannot be made to fail")
@pytest.mark.parametrize("failure", [OverflowError("int too large to convert"), OSError(errno.ENOSPC, "No space left")])
def test_a_log_that_cannot_be_compacted_does_not_keep_others_from_it(failure: Exception) -> None:
    environment = memory_environment()
    config = LogConfig(segment_bytes=400, cleanup_policy=frozenset(("compact",)))

    async def scenario() -> None:
        manager = manager_of(environment, config=config)
        await manager.start()
        logs = [manager.get_or_create("orders", partition, ORDERS, config) for partition in range(2)]
        for number in range(30):
            append(logs[0], keyed(("a", f"{number}" * 9)))
        for number in range(20):
            append(logs[1], keyed(("a", f"{number}" * 9)))
        clean_group = Cleaning.clean_group
        bad = logs[0]

        def fail(self: Cleaning, group: list[Segment]) -> Stepwise[None]:
            if self.segments is bad.segments:
                raise failure
            return clean_group(self, group)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Cleaning, "clean_group", fail)
            await manager.cleaner.run()
        assert len(values_of(logs[1])) < 15
        assert len(values_of(bad)) == 30
        await manager.cleaner.run()
        # A full disk is no reason for good.
        assert (len(values_of(bad)) < 15) is isinstance(failure, OSError)
        await manager.close()

    run(environment, scenario)


def test_compaction_goes_on_when_its_file_is_closed_to_make_room_for_others() -> None:
    environment = memory_environment()
    config = LogConfig(segment_bytes=300_000, cleanup_policy=frozenset(("compact",)))

    async def scenario() -> None:
        manager = manager_of(environment, config=config, open_files=2)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, config)
        for number in range(1500):  # more than one step of the cleaner
            append(log, keyed(("a", f"{number:0500}")))
        others = [manager.get_or_create("other", partition, AGAIN, config) for partition in range(5)]
        running = asyncio.ensure_future(manager.cleaner.run())
        while not running.done():
            for other in others:
                append(other, keyed(("b", "1")))
            await asyncio.sleep(0)
        assert not manager.cleaner.uncleanable
        assert len(values_of(log)) < 600
        await manager.close()

    run(environment, scenario)


def test_a_replica_that_began_again_lower_is_not_emptied_by_its_old_log_start() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        manager = manager_of(environment)
        await manager.start()
        log = manager.get_or_create("orders", 0, ORDERS, CONFIG)
        append(log, batch(*"abcdefghij"))
        log.advance_log_start_offset(9, 10)
        await manager.housekeeping.checkpoint_log_start_offsets()
        manager.prepare_truncation(log, 2)
        log.truncate_to(2)
        assert log.log_start_offset == 2
        append(log, batch("x", "y"))
        environment.files.kill()
        again = manager_of(environment)
        await again.start()
        assert values_of(again.get_or_create("orders", 0, ORDERS, CONFIG)) == [(2, "x"), (3, "y")]
        await again.close()

    run(environment, scenario)


def test_a_read_of_less_than_nothing_is_no_failure_of_the_disk(tmp_path: Path) -> None:
    environment = memory_environment()
    environment.files = LocalFiles()  # type: ignore[assignment]
    failures: list[StorageError] = []
    log = Log.open(environment, str(tmp_path / "orders-0"), config=LogConfig())
    log.segments.on_failure = failures.append
    append(log, batch("a"))
    assert log.read(0, -5).next_offset == 1
    assert log.read(0, -5, min_one=False).data == b""
    assert not failures
