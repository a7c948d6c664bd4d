"""The state directory: the local stand-in for the API server.

    DIRECTORY/up.json                    who runs here: pid, address; its lock is held as long as it does
    DIRECTORY/resources/KIND/NAME.json   what is declared: {"manifest": ..., "origin": "applied" or a file}
    DIRECTORY/status/KIND/NAME.json      its status, written by `broadsheet up` only
    DIRECTORY/gone/KIND/NAME.json        what became of a resource, for the `broadsheet delete` that waits for it
    DIRECTORY/clusters/NAME/             brokers: their configuration, log files and data

`broadsheet apply`, `get` and `delete` work on this directory and `broadsheet up` watches it. Files are replaced by
renaming and changes are made under a lock, so every reader sees whole files and no change is lost.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from broadsheet_operator.api.changes import refused_changes
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import KINDS, AnyResource, ManifestError, Mistake, parse
from broadsheet_operator.reconcilers.conditions import format_time

APPLIED = "applied"
Change = Literal["created", "configured", "unchanged"]
Reference = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A declared resource, and where the declaration came from."""

    resource: AnyResource
    origin: str


class FileStore:
    """Resources and statuses in a directory: a `ResourceReader`, and what changes them. Keys have no namespace."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self._resources = self.directory / "resources"
        self._status = self.directory / "status"
        self._parting = self.directory / "gone"

    def prepare(self) -> None:
        """Make the directories. OSError when that is not possible."""
        for kind in KINDS:
            (self._resources / kind).mkdir(parents=True, exist_ok=True)
            (self._status / kind).mkdir(parents=True, exist_ok=True)
            (self._parting / kind).mkdir(parents=True, exist_ok=True)
            for left in (self._parting / kind).iterdir():  # by a `delete` that was interrupted
                left.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.directory / "change.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def fingerprint(self) -> tuple[int, ...]:
        """Changes whenever a resource is declared, changed or taken away."""
        return tuple((self._resources / kind).stat().st_mtime_ns for kind in KINDS)

    def entries(self) -> dict[Reference, Entry]:
        """All declared resources with their statuses. A file that cannot be read is left out."""
        found: dict[Reference, Entry] = {}
        for kind in KINDS:
            for path in sorted((self._resources / kind).glob("*.json")):
                entry = self._read(kind, path.stem)
                if entry is not None:
                    found[kind, path.stem] = entry
        return found

    def get(self, kind: str, key: ResourceKey) -> AnyResource | None:
        """One resource by its kind and key."""
        entry = self._read(kind, key.name)
        return entry.resource if entry is not None else None

    def list(self, kind: str) -> Sequence[AnyResource]:
        """All resources of a kind, by key."""
        found = (self._read(kind, path.stem) for path in sorted((self._resources / kind).glob("*.json")))
        return [entry.resource for entry in found if entry is not None]

    def entry(self, kind: str, name: str) -> Entry | None:
        """One resource with its status; None if it is not declared."""
        return self._read(kind, name)

    def _read(self, kind: str, name: str) -> Entry | None:
        stored = _load(self._resources / kind / f"{name}.json")
        if stored is None:
            return None
        manifest = dict(stored["manifest"])
        status = _load(self._status / kind / f"{name}.json")
        if status is not None:
            manifest["status"] = status
        try:
            return Entry(parse(manifest), stored.get("origin", APPLIED))
        except ManifestError:
            return None

    def apply(self, resource: AnyResource, origin: str = APPLIED) -> Change:
        """Declare a resource, or change its declaration. ManifestError when a field that never changes would change."""
        kind, name = type(resource).__name__, resource.metadata.name
        spec = resource.manifest()["spec"]
        with self._locked():
            path = self._resources / kind / f"{name}.json"
            stored = _load(path)
            if stored is None or stored["manifest"]["metadata"].get("deletionTimestamp"):
                metadata = {
                    **resource.manifest()["metadata"],
                    "uid": str(uuid.uuid4()),
                    "generation": 1,
                    "creationTimestamp": format_time(datetime.now(UTC)),
                }
                (self._status / kind / f"{name}.json").unlink(missing_ok=True)
                change: Change = "created"
            else:
                old = stored["manifest"]
                if old["spec"] == spec:
                    if stored.get("origin") != origin:
                        _save(path, {**stored, "origin": origin})
                    return "unchanged"
                _refuse_forbidden_changes(kind, name, old["spec"], spec)
                metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
                change = "configured"
            manifest = {"apiVersion": resource.api_version, "kind": kind, "metadata": metadata, "spec": spec}
            _save(path, {"manifest": manifest, "origin": origin})
        return change

    def mark_deleted(self, kind: str, name: str, *, awaited: bool = False) -> bool:
        """Ask for a resource to be deleted; `up` finishes it. False if there is none.

        `awaited`: a command waits for it and reads `parting` then.
        """
        with self._locked():
            path = self._resources / kind / f"{name}.json"
            stored = _load(path)
            if stored is None:
                return False
            metadata = stored["manifest"]["metadata"]
            if not metadata.get("deletionTimestamp"):
                metadata["deletionTimestamp"] = format_time(datetime.now(UTC))
                metadata["generation"] += 1
                _save(path, {**stored, "awaited": awaited})
            return True

    def remove(self, kind: str, name: str, uid: str, words: str = "") -> None:
        """Take a resource away, unless another of the same name has been declared since. `words`: what became of it."""
        with self._locked():
            path = self._resources / kind / f"{name}.json"
            stored = _load(path)
            if stored is not None and stored["manifest"]["metadata"].get("uid") == uid:
                if stored.get("awaited"):
                    _save(self._parting / kind / f"{name}.json", {"uid": uid, "message": words})
                path.unlink(missing_ok=True)
                (self._status / kind / f"{name}.json").unlink(missing_ok=True)

    def parting(self, kind: str, name: str, uid: str) -> str:
        """What became of a resource whose deletion was awaited; asked once. Empty when nothing is known of it."""
        path = self._parting / kind / f"{name}.json"
        found = _load(path)
        if not isinstance(found, dict) or found.get("uid") != uid:
            return ""
        path.unlink(missing_ok=True)
        return str(found.get("message", ""))

    def write_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        """Replace a status."""
        _save(self._status / kind / f"{name}.json", status)

    def runner(self) -> dict[str, Any] | None:
        """The `up` that runs here; None if there is none."""
        try:
            with open(self.directory / "up.lock") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _load(self.directory / "up.json") or {}
        except OSError:
            return None
        return None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the directory: one runner at a time. BlockingIOError if there is another."""
        lock = os.open(self.directory / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _save(self.directory / "up.json", {"pid": os.getpid(), "started": format_time(datetime.now(UTC))})
            yield
        finally:
            os.close(lock)


def _refuse_forbidden_changes(kind: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """What the CRD's transition rules refuse on Kubernetes."""
    where = f"{kind.lower()}/{name}"
    mistakes = [Mistake(where, field, words) for field, words in refused_changes(kind, old, new)]
    if mistakes:
        raise ManifestError(mistakes)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _save(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(path)
