"""Many groups with one member each, on as few connections as a test can have: what a consumer sends, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from typing import Any

from broadsheet_broker.wire.api_messages import request_header_version, response_class, response_header_version
from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest
from broadsheet_broker.wire.messages.heartbeat_request import HeartbeatRequest
from broadsheet_broker.wire.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from broadsheet_broker.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from broadsheet_broker.wire.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from broadsheet_broker.wire.primitives import skip_tagged_fields
from broadsheet_broker.wire.schema import Message

CLIENT_ID = b"scale"
SESSION_MS = 45_000
HEARTBEAT_SECONDS = 3.0
"""The defaults of Kafka's consumer."""
MEMBER_ID_REQUIRED = 79
_COORDINATOR_IS_BUSY = frozenset((14, 15, 16))
"""COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR."""


class Refused(Exception):
    """An error code where none was expected."""


class Line:
    """One connection to one broker; requests may follow each other, answers come in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = asyncio.Lock()

    @classmethod
    async def to(cls, host: str, port: int) -> Line:
        """A new connection."""
        return cls(*await asyncio.open_connection(host, port))

    async def ask(self, request: Message, version: int) -> Any:
        """The answer to one request; others wait for it."""
        key = type(request).API_KEY
        body = b"".join(bytes(part) for part in request.encode(version))
        tags = b"\0" if request_header_version(key, version) == 2 else b""
        head = struct.pack(">hhih", key, version, 1, len(CLIENT_ID)) + CLIENT_ID + tags
        async with self._lock:
            self._writer.write(struct.pack(">i", len(head) + len(body)) + head + body)
            (size,) = struct.unpack(">i", await self._reader.readexactly(4))
            view, position = memoryview(await self._reader.readexactly(size)), 4
        if response_header_version(key, version):
            position = skip_tagged_fields(view, position, size)
        answer, _ = response_class(key).decode(view, version, position)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Member:
    """The only member of a group."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.id = ""
        self.generation = -1
        self.line: Line | None = None

    async def join(self, lines: Sequence[Line], by_node: dict[int, Line]) -> None:
        """Find the coordinator, join, get an assignment, and commit an offset."""
        self.line = await self._coordinator(lines[0], by_node)
        protocol = JoinGroupRequestProtocol(name="range", metadata=b"\0" * 8)
        while self.generation < 0:
            request = JoinGroupRequest(
                group_id=self.group, session_timeout_ms=SESSION_MS, rebalance_timeout_ms=60_000,
                member_id=self.id, protocol_type="consumer", protocols=[protocol],
            )  # fmt: skip
            answer = await self.line.ask(request, 5)
            self.id = answer.member_id
            if answer.error_code == MEMBER_ID_REQUIRED:
                continue
            _check(answer.error_code, f"{self.group} joins")
            self.generation = answer.generation_id
        assignment = SyncGroupRequestAssignment(member_id=self.id, assignment=b"\0" * 10)
        sync = SyncGroupRequest(
            group_id=self.group, generation_id=self.generation, member_id=self.id, assignments=[assignment]
        )
        _check((await self.line.ask(sync, 3)).error_code, f"{self.group} syncs")
        await self.commit()

    async def _coordinator(self, line: Line, by_node: dict[int, Line]) -> Line:
        for _ in range(600):
            found = await line.ask(FindCoordinatorRequest(key=self.group, key_type=0), 2)
            if found.error_code not in _COORDINATOR_IS_BUSY:
                _check(found.error_code, f"the coordinator of {self.group}")
                return by_node[found.node_id]
            await asyncio.sleep(0.1)
        raise Refused(f"no coordinator of {self.group} after a minute")

    async def heartbeat(self) -> None:
        """What a consumer sends every three seconds."""
        assert self.line is not None
        request = HeartbeatRequest(group_id=self.group, generation_id=self.generation, member_id=self.id)
        _check((await self.line.ask(request, 3)).error_code, f"a heartbeat of {self.group}")

    async def commit(self) -> None:
        """One offset of one partition."""
        assert self.line is not None
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
        request = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self.generation,
            member_id=self.id,
            topics=[OffsetCommitRequestTopic(name="many-0", partitions=[partition])],
        )
        answer = await self.line.ask(request, 6)
        _check(answer.topics[0].partitions[0].error_code, f"a commit of {self.group}")


def _check(code: int, what: str) -> None:
    if code:
        raise Refused(f"{what}: error code {code}")


async def keep_alive(members: Sequence[Member], stop: asyncio.Event) -> int:
    """Heartbeats of all members until told to stop; how many were sent."""
    sent = 0
    while not stop.is_set():
        began = asyncio.get_running_loop().time()
        for member in members:
            await member.heartbeat()
            sent += 1
        left = HEARTBEAT_SECONDS - (asyncio.get_running_loop().time() - began)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(left, 0.001))
    return sent
