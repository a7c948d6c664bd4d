"""Logs that could not be opened at the start: what is done with them at the stop, and while they are tried again."""

from __future__ import annotations

import asyncio
import errno
import uuid

import pytest

from broadsheet_broker.log import CorruptLogError, LogManager, StorageError
from broadsheet_broker.log.errors import is_passing
from tests.log.support import append, batch, values_of
from tests.log.test_log_manager import CONFIG, ORDERS, ROOT, manager_of, run
from tests.support.memory_environment import MemoryEnvironment, memory_environment

AGAIN = uuid.UUID(int=78)
LOG = f"{ROOT}/orders-0/{0:020d}.log"


async def left_by_a_crash(environment: MemoryEnvironment, *directories: str) -> None:
    manager = manager_of(environment, *directories)
    await manager.start()
    log = manager.get_or_create("orders", 0, ORDERS, CONFIG)
    for value in "abc":
        append(log, batch(value * 50))
    environment.files.kill()


async def on_a_full_disk(environment: MemoryEnvironment, *directories: str) -> LogManager:
    """Started again where orders-0 cannot be opened for want of space; then there is room again."""
    writing = {"append", "write", "replace", "make_directory", "rename"}
    environment.files.fault = lambda operation, path: (
        errno.ENOSPC if operation in writing and "/orders-0" in path else None
    )
    manager = manager_of(environment, *directories)
    await manager.start()
    failure = manager.failure("orders", 0)
    assert failure is not None and is_passing(failure)
    environment.files.fault = None
    return manager


def test_a_log_that_a_full_disk_kept_from_recovery_is_not_trusted_after_a_clean_stop() -> None:
    """The marker of a clean stop was written: the next start asked no checksum, and told that nothing was lost."""
    environment = memory_environment()

    async def scenario() -> None:
        await left_by_a_crash(environment)
        again = await on_a_full_disk(environment)
        environment.files.open(LOG).write(70, b"?")  # what the crash did to it; nobody has come to see it
        await again.close(broker_epoch=7)
        third = manager_of(environment)
        await third.start()
        assert third.previous_broker_epoch == -1
        assert isinstance(third.failure("orders", 0), CorruptLogError)
        await third.close()

    run(environment, scenario)


def test_a_log_opened_again_in_a_directory_that_is_lost_meanwhile_is_not_served() -> None:
    environment = memory_environment()
    environment.files.make_directory("/more")

    async def scenario() -> None:
        await left_by_a_crash(environment, ROOT, "/more")
        manager = await on_a_full_disk(environment, ROOT, "/more")
        other = manager.get_or_create("orders", 1, ORDERS, CONFIG)
        trying = asyncio.ensure_future(manager.open_again("orders", 0))
        await asyncio.sleep(0)
        manager.lose(ROOT, StorageError("the disk is gone"))
        assert not await trying
        assert other.directory.startswith("/more") or other.offline is not None
        assert manager.get("orders", 0) is None
        with pytest.raises(StorageError):
            manager.get_or_create("orders", 0, ORDERS, CONFIG)
        await manager.close()

    run(environment, scenario)


def test_a_topic_deleted_while_its_log_is_tried_again_does_not_mix_with_the_next_of_that_name() -> None:
    """Its log was opened where the new topic's was: one of the two was cut to what the other had."""
    environment = memory_environment()

    async def scenario() -> None:
        await left_by_a_crash(environment)
        manager = await on_a_full_disk(environment)
        trying = asyncio.ensure_future(manager.open_again("orders", 0))
        await asyncio.sleep(0)
        manager.delete("orders", 0)
        with pytest.raises(StorageError) as refused:
            manager.get_or_create("orders", 0, AGAIN, CONFIG)
        assert is_passing(refused.value), "it is tried again"
        assert not await trying
        new = manager.get_or_create("orders", 0, AGAIN, CONFIG)
        assert (new.log_end_offset, new.topic_id) == (0, AGAIN)
        assert len([name for name in environment.files.list(ROOT) if name.endswith("-stray")]) == 1
        append(new, batch("new"))
        await manager.close()
        again = manager_of(environment)
        await again.start()
        assert values_of(again.get_or_create("orders", 0, AGAIN, CONFIG)) == [(0, "new")]
        await again.close()

    run(environment, scenario)


def test_an_empty_log_does_not_take_the_place_of_one_whose_directory_vanished() -> None:
    environment = memory_environment()

    async def scenario() -> None:
        await left_by_a_crash(environment)
        manager = await on_a_full_disk(environment)
        environment.files.rename(f"{ROOT}/orders-0", f"{ROOT}/elsewhere")
        assert not await manager.open_again("orders", 0)
        assert not environment.files.exists(f"{ROOT}/orders-0")
        with pytest.raises(StorageError, match="gone"):
            manager.get_or_create("orders", 0, ORDERS, CONFIG)
        await manager.close()

    run(environment, scenario)
