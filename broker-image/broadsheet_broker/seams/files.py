"""Files as the log and the storage tool see them: positioned reads, gathered appends, durable renames."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from typing import IO, Protocol

from broadsheet_broker.seams.buffers import BufferPool

Buffer = bytes | bytearray | memoryview

_IOV_MAX = 1024
"""The most buffers one writev takes on Linux (UIO_MAXIOV)."""

_WORTH_SHARING = 64 * 1024
"""Bytes from which on memory that is there already is faster than new memory: malloc maps that much each time, and the
kernel clears it page by page."""


class File(Protocol):
    """An open file. Offsets and sizes are bytes. Every method raises OSError as the operating system does."""

    path: str

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; shorter only at the end of the file."""
        ...

    def read_shared(self, offset: int, size: int) -> Buffer:
        """The same, where it is large in memory that is used again as soon as no view of it is left.

        For what is sent and forgotten, on the event loop's thread: a part of it that is kept keeps the whole.
        """
        ...

    def stored(self, offset: int, size: int) -> StoredBytes | None:
        """A range that is read later, piece by piece, also when the file was closed or removed meanwhile.

        None when as many closed files as may be are kept open for such ranges.
        """
        ...

    def append(self, buffers: Sequence[Buffer]) -> int:
        """Write the buffers at the end with as few calls as possible and return the bytes written, always all of them.

        When the disk is full the file is cut back to its length before the call, and OSError is raised.
        """
        ...

    def write(self, offset: int, data: Buffer) -> None:
        """Overwrite in place (index entries)."""
        ...

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """fdatasync: everything appended survives a loss of power. Blocks for milliseconds; see Environment.offload."""
        ...

    def close(self) -> None: ...


class StoredBytes:
    """Bytes of a file that are on their way to a client and not in memory. `len()` is their number."""

    __slots__ = ("_file", "_size", "offset")

    def __init__(self, file: Pinned, offset: int, size: int) -> None:
        self._file = file
        self._size = size
        self.offset = offset
        file.pin()

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, size: int) -> Buffer:
        """At most `size` bytes from `start`, relative to the range; fewer if the file was cut. May raise OSError."""
        return self._file.read_shared(self.offset + start, min(size, self._size - start))

    def __bytes__(self) -> bytes:
        """All of them, for tests and tools."""
        return bytes(self.read(0, self._size))

    def __del__(self) -> None:
        self._file.unpin()


class Pinned(Protocol):
    """A file that stays readable while it is pinned, even if it is closed."""

    def read_shared(self, offset: int, size: int) -> Buffer: ...

    def pin(self) -> None: ...

    def unpin(self) -> None: ...


MOST_KEPT_OPEN = 128
"""Files that are closed for the broker, and still open for what is being sent from them."""


class KeptOpen:
    """How many there are."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Files(Protocol):
    """The file system. Paths are plain strings, since they are built in hot paths."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File: ...

    def read_bytes(self, path: str) -> bytes: ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file atomically and durably: temporary file, fsync, rename, fsync of the directory."""
        ...

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def modified_ms(self, path: str) -> int:
        """Milliseconds since the Unix epoch of the last change."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        ...

    def is_directory(self, path: str) -> bool: ...

    def make_directory(self, path: str, *, parents: bool = True) -> None:
        """With its parents, or FileNotFoundError where they are not to be made; no error when it exists."""
        ...

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None:
        """No error when it does not exist."""
        ...

    def remove_tree(self, path: str) -> None: ...

    def sync_directory(self, path: str) -> None:
        """Make creations, renames and removals in this directory durable."""
        ...

    def free_bytes(self, path: str) -> int: ...

    def total_bytes(self, path: str) -> int: ...

    def lock(self, path: str) -> object | None:
        """Take an exclusive lock that ends with the process (Kafka's `.lock`); None when another process holds it."""
        ...


def _lock_as_java(file: IO[bytes]) -> None:
    """The lock that Java's FileChannel.tryLock takes, which is of another kind than flock's on Linux (fcntl(2)).

    Without it Apache Kafka and this broker could use one log directory together. An open file description lock, since a
    process loses a lock of its own when it closes any descriptor of the file. BlockingIOError when it is held.
    """
    import fcntl

    command = getattr(fcntl, "F_OFD_SETLK", None)  # Linux; elsewhere flock's lock is of the same kind
    if command is None:
        return
    whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(file, command, whole_file)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel before 3.15, or one that only looks like Linux
            raise


class LocalFile:
    """A file of the machine, by descriptor."""

    __slots__ = ("_closed", "_end", "_fd", "_kept_open", "_pins", "_pool", "path")

    def __init__(self, path: str, fd: int, pool: BufferPool, kept_open: KeptOpen) -> None:
        self.path = path
        self._pool = pool
        self._kept_open = kept_open
        self._pins = 0
        self._closed = False
        self._fd = fd
        self._end = os.fstat(fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def read_shared(self, offset: int, size: int) -> Buffer:
        if size < _WORTH_SHARING:
            return os.pread(self._fd, size, offset)
        buffer = self._pool.acquire(size)
        view = memoryview(buffer)
        self._pool.release(buffer)  # lent again once the views are gone
        return view[: os.preadv(self._fd, [view[:size]], offset)]

    def stored(self, offset: int, size: int) -> StoredBytes | None:
        return StoredBytes(self, offset, size) if self._kept_open.count < MOST_KEPT_OPEN else None

    def pin(self) -> None:
        self._pins += 1

    def unpin(self) -> None:
        self._pins -= 1
        if not self._pins and self._closed:
            self._kept_open.count -= 1
            self._close()

    def append(self, buffers: Sequence[Buffer]) -> int:
        start = self._end
        try:
            if len(buffers) == 1:
                self._write_all(buffers[0], start)
                self._end = start + len(buffers[0])
            else:
                for first in range(0, len(buffers), _IOV_MAX):
                    self._write_gathered(buffers[first : first + _IOV_MAX])
        except OSError:
            self._end = start
            os.ftruncate(self._fd, start)
            raise
        return self._end - start

    def _write_gathered(self, buffers: Sequence[Buffer]) -> None:
        expected = sum(map(len, buffers))
        written = os.pwritev(self._fd, buffers, self._end)
        self._end += written
        if written < expected:
            rest = b"".join(buffers)[written:]
            self._write_all(rest, self._end)
            self._end += len(rest)

    def _write_all(self, data: Buffer, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        if written < len(data):
            view = memoryview(data)
            while written < len(view):
                written += os.pwrite(self._fd, view[written:], offset + written)

    def write(self, offset: int, data: Buffer) -> None:
        self._write_all(data, offset)
        self._end = max(self._end, offset + len(data))

    def size(self) -> int:
        return self._end

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._end = size

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pins:
            self._kept_open.count += 1
        else:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalFiles:
    """The machine's file system."""

    def __init__(self, made: Callable[[int], None] = lambda size: None) -> None:
        """`made` is called with the size of each new buffer for what is read."""
        self._pool = BufferPool(made, parked_limit=8 * 1024 * 1024)
        self._kept_open = KeptOpen()

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> LocalFile:
        flags = os.O_RDONLY if read_only else os.O_RDWR
        if create:
            flags |= os.O_CREAT
        return LocalFile(path, os.open(path, flags | os.O_CLOEXEC, 0o644), self._pool, self._kept_open)

    def read_bytes(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def replace(self, path: str, data: bytes) -> None:
        temporary = path + ".tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # a full disk may have room for its beginning
                os.unlink(temporary)
            raise
        os.replace(temporary, path)
        self.sync_directory(os.path.dirname(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def modified_ms(self, path: str) -> int:
        return os.stat(path).st_mtime_ns // 1_000_000

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def make_directory(self, path: str, *, parents: bool = True) -> None:
        if parents:
            os.makedirs(path, exist_ok=True)
        elif not os.path.isdir(path):
            os.mkdir(path)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        try:
            os.remove(path)
        except FileNotFoundError:
            return

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: str) -> int:
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def total_bytes(self, path: str) -> int:
        stat = os.statvfs(path)
        return stat.f_blocks * stat.f_frsize

    def lock(self, path: str) -> object | None:
        import fcntl  # POSIX only, like the rest of this module; imported where it is used

        file = open(path, "wb")  # noqa: SIM115 - the lock lives as long as the returned file object
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock_as_java(file)
        except BlockingIOError:
            file.close()
            return None
        return file
