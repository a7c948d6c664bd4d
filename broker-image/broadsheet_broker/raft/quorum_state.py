"""The `quorum-state` file: what a replica must not forget about elections (Kafka's QuorumStateData, versions 0 and 1).

Version 0 belongs to static quorums (kraft.version 0) and lists the voters; version 1 to dynamic ones, whose voters
stand in the log, and names the directory that was voted for.
"""

from __future__ import annotations

import json
from typing import Any, Final

from broadsheet_broker.log.errors import FULL_DISK
from broadsheet_broker.raft.messages import ElectionState
from broadsheet_broker.raft.voters import ReplicaKey, VoterSet
from broadsheet_broker.seams import Files
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.primitives import parse_uuid_text, uuid_text

FILE_NAME: Final = "quorum-state"
_NOBODY: Final = -1
_SECTOR_BYTES: Final = 512


def encode(state: ElectionState, voters: VoterSet) -> bytes:
    leader = _NOBODY if state.leader_id is None else state.leader_id
    voted = _NOBODY if state.voted is None else state.voted.id
    data: dict[str, Any]
    if voters.dynamic:
        directory = ReplicaKey(_NOBODY).directory_id if state.voted is None else state.voted.directory_id
        data = {
            "leaderId": leader,
            "leaderEpoch": state.leader_epoch,
            "votedId": voted,
            "votedDirectoryId": uuid_text(directory),
            "data_version": 1,
        }
    else:
        data = {
            "clusterId": "",
            "leaderId": leader,
            "leaderEpoch": state.leader_epoch,
            "votedId": voted,
            "appliedOffset": 0,
            "currentVoters": [{"voterId": id} for id in voters.ids],
            "data_version": 0,
        }
    return json.dumps(data, separators=(",", ":")).encode()


def decode(data: bytes, path: str) -> ElectionState:
    """Raises KafkaError(KAFKA_STORAGE_ERROR) for a file that is none of Kafka's: guessing an epoch could elect two."""
    try:
        found = json.loads(data)
        version = found["data_version"]
        if version not in (0, 1):
            raise ValueError(f"data_version {version} is unknown")
        voted = found["votedId"]
        key = None
        if voted != _NOBODY:
            text = found.get("votedDirectoryId")
            key = ReplicaKey(voted, parse_uuid_text(text)) if text else ReplicaKey(voted)
        leader = found["leaderId"]
        return ElectionState(int(found["leaderEpoch"]), None if leader == _NOBODY else leader, key)
    except (ValueError, KeyError, TypeError) as error:
        raise KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR,
            f"{path} is not a quorum state that Kafka writes ({error}). It holds the last epoch of this controller; "
            "restore it from a copy, or remove it if this node is the only controller.",
        ) from None


def load(files: Files, directory: str) -> ElectionState:
    """The stored state; that of a replica that never took part when there is no file."""
    path = f"{directory}/{FILE_NAME}"
    return decode(files.read_bytes(path), path) if files.exists(path) else ElectionState()


def store(files: Files, directory: str, state: ElectionState, voters: VoterSet) -> None:
    """Write the file durably, also to a full disk that has it already. Raises OSError, and then nothing has changed.

    A full disk has no room for a second file, so the old one is written over. It fills one sector, which a disk writes
    as a whole; the spaces after the text keep its length.
    """
    path = f"{directory}/{FILE_NAME}"
    data = encode(state, voters)
    data = data.ljust(len(data) + -len(data) % _SECTOR_BYTES)
    try:
        files.replace(path, data)
    except OSError as error:
        if error.errno not in FULL_DISK or not files.exists(path) or files.size(path) != len(data):
            raise
        file = files.open(path)
        try:
            file.write(0, data)
            file.sync()
        finally:
            file.close()
