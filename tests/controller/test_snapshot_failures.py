"""A snapshot of the metadata that does not succeed costs nothing but the snapshot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.controller.controller_support import running

from broadsheet_broker.log import StorageError


def test_a_clean_up_that_fails_after_a_snapshot_does_not_keep_the_node_from_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with running(tmp_path) as node:
            await node.create("orders")
            raft = node.controller.raft

            def refuse(*_: int) -> None:
                raise StorageError("segments cannot be deleted: Input/output error")

            raft.storage.clean = refuse  # type: ignore[method-assign]
            raft._snapshot = asyncio.get_running_loop().create_task(raft._take_snapshot())
        assert "could not be written" in caplog.text

    asyncio.run(run())
