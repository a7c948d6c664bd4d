"""Errors of the file system: where it happened, and what the operator of the broker can do."""

from __future__ import annotations

import errno

from broadsheet_broker.wire.errors import ErrorCode, KafkaError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

PASSING = (*FULL_DISK, *NO_DESCRIPTORS)
"""What a write may fail with although the directory is sound."""


def is_passing(error: BaseException) -> bool:
    """Whether what failed may succeed later, without anybody's help but free space or descriptors."""
    return isinstance(error, StorageError | OSError) and error.errno in (*PASSING, errno.EBUSY)


def kept(error: Exception) -> KafkaError:
    """An error as it may be kept, without the frames that it passed (`KafkaError.again`)."""
    if isinstance(error, KafkaError):
        return error.again()
    return StorageError(str(error), error if isinstance(error, OSError) else None)


class StorageError(KafkaError):
    """The file system refused (full disk, I/O error): KAFKA_STORAGE_ERROR. What was being appended is not there."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, message)
        self.errno = None if cause is None else cause.errno
        """What the operating system said, if it was asked."""


class CorruptLogError(StorageError):
    """Acknowledged data cannot be read back: the partition goes offline alone, and nothing is cut or deleted."""

    def __init__(self, path: str, position: int, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: at byte {position}: {reason}. {remedy}")
        self.path = path
        self.position = position


class RecordValidationError(KafkaError):
    """A batch that is refused for some of its records (Produce answers name them: KIP-467)."""

    def __init__(self, code: ErrorCode, message: str, record_errors: list[tuple[int, str]]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors
        """Pairs (index of the record in its batch, message)."""
