"""A file system in memory with the failures of real ones: full disks, I/O errors, killed processes, lost power.

    files = MemoryFiles()
    files.capacity = 10_000                    # ENOSPC beyond
    files.fault = lambda operation, path: errno.EIO if operation == "sync" else None
    files.kill(random)                         # the process dies: the last append may be half done, locks are free
    files.lose_power(random)                   # what was not synced is gone, or partly there, or zeros

It has the methods of `broadsheet_broker.seams.Files` and takes nothing from there but what stands for
bytes that are read later.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Sequence
from random import Random

from broadsheet_broker.seams.files import StoredBytes

Buffer = bytes | bytearray | memoryview

PAGE_BYTES = 4096


class _Node:
    """A file's content, and what of it would survive a loss of power."""

    __slots__ = ("data", "durable", "last_append", "modified_ms")

    def __init__(self, modified_ms: int) -> None:
        self.data = bytearray()
        self.durable = b""
        self.last_append = 0
        """Length before the last append."""
        self.modified_ms = modified_ms


class MemoryFile:
    """An open file. Useless after `kill` or `lose_power`, like a descriptor of a dead process."""

    def __init__(self, files: MemoryFiles, path: str, node: _Node) -> None:
        self.path = path
        self._files = files
        self._node = node
        self._life = files.lives
        self._closed = False
        self._pins = 0
        files.open_count += 1

    def _check(self, operation: str) -> _Node:
        if (self._closed and not (self._pins and operation == "read")) or self._life != self._files.lives:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        self._files.check(operation, self.path)
        return self._node

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._check("read").data[offset : offset + size])

    def read_shared(self, offset: int, size: int) -> Buffer:
        return memoryview(self.read(offset, size))

    def stored(self, offset: int, size: int) -> StoredBytes:
        return StoredBytes(self, offset, size)

    def pin(self) -> None:
        self._pins += 1

    def unpin(self) -> None:
        self._pins -= 1

    def append(self, buffers: Sequence[Buffer]) -> int:
        node = self._check("append")
        data = b"".join(bytes(buffer) for buffer in buffers)
        self._files.take(len(data), self.path)
        node.last_append = len(node.data)
        node.data += data
        node.modified_ms = self._files.now_ms()
        if self._files.after_append is not None:
            self._files.after_append(self.path)
        return len(data)

    def write(self, offset: int, data: Buffer) -> None:
        node = self._check("write")
        node.data[offset : offset + len(data)] = bytes(data)
        node.modified_ms = self._files.now_ms()

    def size(self) -> int:
        return len(self._check("size").data)

    def truncate(self, size: int) -> None:
        node = self._check("truncate")
        if size <= len(node.data):
            del node.data[size:]
        else:
            node.data.extend(bytes(size - len(node.data)))
        node.last_append = min(node.last_append, size)

    def sync(self) -> None:
        node = self._check("sync")
        node.durable = bytes(node.data)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._files.open_count -= 1


class _Lock:
    def __init__(self, files: MemoryFiles, path: str) -> None:
        self._files, self._path, self._life = files, path, files.lives

    def close(self) -> None:
        if self._life == self._files.lives:
            self._files.locks.discard(self._path)


class MemoryFiles:
    """Paths are POSIX paths; directories need not be made before the root's children are used by tests."""

    def __init__(self, now_ms: Callable[[], int] = lambda: 0) -> None:
        self.now_ms = now_ms
        self.nodes: dict[str, _Node] = {}
        self.directories: set[str] = {"/"}
        self.durable_names: dict[str, _Node] = {}
        """Names that survive a loss of power: those synced with their directory."""
        self.capacity: int | None = None
        """Bytes that fit on the disk; None for no limit."""
        self.fault: Callable[[str, str], int | None] | None = None
        """Asked before each operation: an errno to fail with, or None."""
        self.after_append: Callable[[str], None] | None = None
        """Called after each append with its path. To end a process in the middle of a write, it calls `tear` and raises
        something that no broker catches."""
        self.locks: set[str] = set()
        self.lives = 0
        """How often the process died."""
        self.open_count = 0

    # Failures.

    def check(self, operation: str, path: str) -> None:
        code = self.fault(operation, path) if self.fault is not None else None
        if code is not None:
            raise OSError(code, os.strerror(code), path)

    def used_bytes(self) -> int:
        return sum(len(node.data) for node in self.nodes.values())

    def take(self, size: int, path: str) -> None:
        if self.capacity is not None and self.used_bytes() + size > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def kill(self, random: Random | None = None) -> None:
        """The process dies, the machine goes on: everything written stays. With `random`, an append that was under way
        to any one file is cut short somewhere."""
        self.lives += 1
        self.locks.clear()
        self.open_count = 0
        if random is not None:
            grown = sorted(path for path, node in self.nodes.items() if node.last_append < len(node.data))
            if grown:
                node = self.nodes[random.choice(grown)]
                del node.data[random.randint(node.last_append, len(node.data)) :]

    def tear(self, path: str, random: Random) -> None:
        """The process dies during the last append to a file: some of it is there."""
        self.kill()
        node = self.nodes[path]
        del node.data[random.randint(node.last_append, len(node.data)) :]

    def lose_power(self, random: Random | None = None, *, holes: bool = True) -> None:
        """Only what was synced is sure to be there. With `random`, of each file some unsynced pages are there too, or
        the file has its length but zeros for what never reached the disk. Without `holes` those zeros come last only:
        pages reached the disk in their order."""
        self.kill()
        self.nodes = dict(self.durable_names)
        for path in sorted(self.nodes):
            node = self.nodes[path]
            durable = node.durable
            if random is not None and len(node.data) > len(durable) and node.data.startswith(durable):
                node.data = bytearray(_partly_written(bytes(node.data), len(durable), random, holes))
            else:
                node.data = bytearray(durable)
            node.durable = bytes(node.data)
            node.last_append = len(node.data)

    # Files.

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> MemoryFile:
        self.check("open", path)
        node = self.nodes.get(path)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._need_directory(path)
            node = self.nodes[path] = _Node(self.now_ms())
        return MemoryFile(self, path, node)

    def _need_directory(self, path: str) -> None:
        if posixpath.dirname(path) not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _node(self, path: str) -> _Node:
        node = self.nodes.get(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def read_bytes(self, path: str) -> bytes:
        self.check("read", path)
        return bytes(self._node(path).data)

    def replace(self, path: str, data: bytes) -> None:
        self.check("replace", path)
        self._need_directory(path)
        self.take(len(data), path)
        node = _Node(self.now_ms())
        node.data = bytearray(data)
        node.durable = bytes(data)
        node.last_append = len(data)
        self.nodes[path] = node
        self.sync_directory(posixpath.dirname(path))

    def exists(self, path: str) -> bool:
        return path in self.nodes or path in self.directories

    def size(self, path: str) -> int:
        return len(self._node(path).data)

    def modified_ms(self, path: str) -> int:
        return self._node(path).modified_ms

    def list(self, path: str) -> list[str]:
        self.check("list", path)
        if path not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        prefix = path.rstrip("/") + "/"
        names = {
            name[len(prefix) :].split("/", 1)[0] for name in (*self.nodes, *self.directories) if _below(name, prefix)
        }
        return sorted(names)

    def is_directory(self, path: str) -> bool:
        return path in self.directories

    def make_directory(self, path: str, *, parents: bool = True) -> None:
        self.check("make_directory", path)
        if not parents:
            self._need_directory(path)
        while path not in self.directories:
            self.directories.add(path)
            path = posixpath.dirname(path)

    def rename(self, source: str, target: str) -> None:
        self.check("rename", source)
        if source in self.nodes:
            self._need_directory(target)
            self.nodes[target] = self.nodes.pop(source)
            return
        if source not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        prefix = source + "/"
        for name in [name for name in self.nodes if _below(name, prefix)]:
            self.nodes[target + name[len(source) :]] = self.nodes.pop(name)
        for name in [name for name in self.directories if name == source or _below(name, prefix)]:
            self.directories.discard(name)
            self.directories.add(target + name[len(source) :])
        # The entries inside are as durable as they were; only the directory's own name waits for its parent.
        for name in [name for name in self.durable_names if _below(name, prefix)]:
            self.durable_names[target + name[len(source) :]] = self.durable_names.pop(name)

    def remove(self, path: str) -> None:
        self.check("remove", path)
        self.nodes.pop(path, None)

    def remove_tree(self, path: str) -> None:
        self.check("remove", path)
        prefix = path + "/"
        for names in (self.nodes, self.durable_names):
            for name in [name for name in names if _below(name, prefix)]:
                del names[name]
        self.directories = {name for name in self.directories if name != path and not _below(name, prefix)}

    def sync_directory(self, path: str) -> None:
        self.check("sync", path)
        prefix = (path or "/").rstrip("/") + "/"
        for names in (self.nodes, self.durable_names):
            for name in [name for name in names if _below(name, prefix) and "/" not in name[len(prefix) :]]:
                node = self.nodes.get(name)
                if node is None:
                    del self.durable_names[name]
                else:
                    self.durable_names[name] = node

    def free_bytes(self, path: str) -> int:
        return (self.capacity or 2**40) - self.used_bytes()

    def total_bytes(self, path: str) -> int:
        return self.capacity or 2**40

    def lock(self, path: str) -> object | None:
        self.check("lock", path)
        if path in self.locks:
            return None
        self.locks.add(path)
        return _Lock(self, path)


def _below(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name != prefix


def _partly_written(data: bytes, durable: int, random: Random, holes: bool) -> bytes:
    """Some length between what is durable and what was written; each page that was not synced is there or zeros."""
    result = bytearray(data[: random.randint(durable, len(data))])
    start = durable
    if not holes and random.random() < 0.3:
        zeros = random.randint(0, len(result) - durable)
        result[len(result) - zeros :] = bytes(zeros)
    while start < len(result):
        end = min((start // PAGE_BYTES + 1) * PAGE_BYTES, len(result))
        if holes and random.random() < 0.3:
            result[start:end] = bytes(end - start)
        start = end
    return bytes(result)
