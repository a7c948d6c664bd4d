"""Kafka's small text files: offset checkpoints, leader epochs, a partition's topic id.

An offset checkpoint of a log directory (`recovery-point-offset-checkpoint`, `log-start-offset-checkpoint`,
`replication-offset-checkpoint`, `cleaner-offset-checkpoint`):

    0                   version
    2                   number of entries
    orders 0 1042       topic, partition, offset
    orders 1 17

A partition's `leader-epoch-checkpoint` has the same head and lines of `epoch start-offset`; its
`partition.metadata` reads `version: 0` and `topic_id: <base64url>`.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping

from broadsheet_broker.seams import Files

RECOVERY_POINT_CHECKPOINT = "recovery-point-offset-checkpoint"
LOG_START_OFFSET_CHECKPOINT = "log-start-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT = "replication-offset-checkpoint"
CLEANER_CHECKPOINT = "cleaner-offset-checkpoint"
LEADER_EPOCH_CHECKPOINT = "leader-epoch-checkpoint"
PARTITION_METADATA = "partition.metadata"
CLEAN_SHUTDOWN_MARKER = ".kafka_cleanshutdown"

TopicPartition = tuple[str, int]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; says which file and why."""


def _rows(files: Files, path: str, columns: int) -> list[list[str]]:
    """The entries below the version and the count; a missing file has none."""
    try:
        text = files.read_bytes(path).decode()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not a text file: {error}") from error
    lines = text.splitlines()
    if not lines:
        raise CheckpointError(f"{path}: empty")
    if lines[0].strip() != "0":
        raise CheckpointError(f"{path}: version {lines[0]!r} in line 1; only version 0 is known")
    rows = [line.split() for line in lines[2:] if line.strip()]
    if len(lines) < 2 or not lines[1].strip().isdigit() or int(lines[1]) != len(rows):
        raise CheckpointError(f"{path}: line 2 should be the number of entries, {len(rows)}")
    for number, row in enumerate(rows, 3):
        if len(row) != columns:
            raise CheckpointError(f"{path}: line {number} has {len(row)} fields instead of {columns}")
    return rows


def read_offsets(files: Files, path: str) -> dict[TopicPartition, int]:
    """The offsets of a checkpoint of a log directory; none when the file does not exist."""
    try:
        return {(topic, int(partition)): int(offset) for topic, partition, offset in _rows(files, path, 3)}
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def write_offsets(files: Files, path: str, offsets: Mapping[TopicPartition, int]) -> None:
    lines = ["0", str(len(offsets))]
    lines += [f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items()]
    files.replace(path, ("\n".join(lines) + "\n").encode())


def read_epochs(files: Files, path: str) -> list[tuple[int, int]]:
    """Pairs (leader epoch, start offset), as they stand in the file."""
    try:
        return [(int(epoch), int(offset)) for epoch, offset in _rows(files, path, 2)]
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def epochs_text(epochs: list[tuple[int, int]]) -> bytes:
    lines = ["0", str(len(epochs))]
    lines += [f"{epoch} {offset}" for epoch, offset in epochs]
    return ("\n".join(lines) + "\n").encode()


def read_topic_id(files: Files, directory: str) -> uuid.UUID | None:
    """The topic id in a partition's directory; None when the file is not there, or was not yet written out when the
    power went (it is made durable with the partition's first records)."""
    path = f"{directory}/{PARTITION_METADATA}"
    try:
        text = files.read_bytes(path).decode()
        if not text.strip("\0"):
            return None
        fields = dict(line.split(": ", 1) for line in text.splitlines() if line.strip())
        if fields["version"].strip() != "0":
            raise CheckpointError(f"{path}: version {fields['version']}; only version 0 is known")
        return uuid.UUID(bytes=base64.urlsafe_b64decode(fields["topic_id"].strip() + "=="))
    except FileNotFoundError:
        return None
    except CheckpointError:
        raise
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: {error!r}") from error


def write_topic_id(files: Files, directory: str, topic_id: uuid.UUID) -> None:
    """Not durable by itself: a thousand new partitions would wait for a thousand fsyncs. The log's sync sees to it."""
    text = base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")
    file = files.open(f"{directory}/{PARTITION_METADATA}", create=True)
    try:
        file.truncate(0)
        file.append([f"version: 0\ntopic_id: {text}".encode()])
    finally:
        file.close()
