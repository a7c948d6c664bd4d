"""The manifest files of `broadsheet up`: what they declare is kept in the store, and followed while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broadsheet_operator.api.manifests import AnyResource, ManifestError, load_paths, manifest_files
from broadsheet_operator.local.store import APPLIED, FileStore, Reference

SETTLE_SECONDS = 1.0
"""How long a resource must be missing from a file before it is deleted: the file may be half written."""


@dataclass(slots=True)
class Watched:
    """A file or directory of the command line, as it was when last read."""

    path: str
    seen: tuple[tuple[str, int, int], ...] = ()
    declared: set[Reference] = field(default_factory=set)
    new: tuple[tuple[str, int, int], ...] = ()
    """As it was when last checked, if that differs from what was read."""
    since: float = 0.0
    """Monotonic seconds of the first check that found it so."""


class ManifestFiles:
    """The files and directories of the command line."""

    def __init__(
        self,
        paths: Sequence[str],
        store: FileStore,
        say: Callable[[str, str], None],
        adapt: Callable[[AnyResource], AnyResource],
    ) -> None:
        """`adapt`: changes a resource before it is declared."""
        self._watched = [Watched(path) for path in paths]
        self._store = store
        self._say = say
        self._adapt = adapt

    def read_all(self) -> None:
        """Declare what all files say. ManifestError for any mistake in one; nothing is declared then."""
        resources = []
        for watched in self._watched:
            watched.seen = _fingerprint(watched.path)
            resources.append((watched, load_paths([watched.path])))
        self._forget_other_files()
        for watched, found in resources:
            self._declare(watched, found)

    def reread(self) -> None:
        """Declare what has changed in the files; a mistake is reported, and nothing of that file is changed."""
        for watched in self._watched:
            self._reread(watched)

    def _forget_other_files(self) -> None:
        """Forget resources that came from a file which is not given to this run."""
        paths = {_origin(w.path) for w in self._watched}
        for (kind, name), entry in self._store.entries().items():
            if entry.origin != APPLIED and entry.origin not in paths:
                self._store.remove(kind, name, entry.resource.metadata.uid)

    def _declare(self, watched: Watched, resources: Sequence[AnyResource], *, settled: bool = True) -> bool:
        """Apply what the file declares; delete what it no longer declares, once the file is settled.

        An empty file deletes nothing. False when something is left to delete.
        """
        origin = _origin(watched.path)
        now = {(type(r).__name__, r.metadata.name) for r in resources}
        before = watched.declared or {k for k, e in self._store.entries().items() if e.origin == origin}
        for resource in resources:
            kind, name = type(resource).__name__, resource.metadata.name
            try:
                change = self._store.apply(self._adapt(resource), origin)
            except ManifestError as error:
                self._say(f"{kind.lower()}/{name}", "; ".join(f"{m.field}: {m.message}" for m in error.mistakes))
                continue
            if change == "configured":
                self._say(f"{kind.lower()}/{name}", "configured")
        gone = before - now
        watched.declared = before | now
        if gone and not resources:
            words = f"{watched.path} no longer declares anything; nothing is deleted for that, use `broadsheet delete`"
            self._say("up", words)
            return True
        if gone and not settled:
            return False
        for kind, name in gone:
            if self._store.mark_deleted(kind, name):
                self._say(f"{kind.lower()}/{name}", f"no longer in {watched.path}: it is deleted")
        watched.declared = now
        return True

    def _reread(self, watched: Watched) -> None:
        seen = _fingerprint(watched.path)
        if seen == watched.seen:
            return
        if not seen:
            # An editor may be about to put the new file in place of the old one.
            return
        if seen != watched.new:
            watched.new, watched.since = seen, time.monotonic()
        try:
            resources = load_paths([watched.path])
        except ManifestError as error:
            watched.seen = seen
            for mistake in error.mistakes:
                self._say("not applied", str(mistake))
            return
        if self._declare(watched, resources, settled=time.monotonic() - watched.since >= SETTLE_SECONDS):
            watched.seen = seen


def _origin(path: str) -> str:
    return str(Path(path).absolute())


def _fingerprint(path: str) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a manifest is written, added or taken away; empty while there is nothing to read."""
    found: list[tuple[str, int, int]] = []
    try:
        for file in manifest_files(path):
            stat = Path(file).stat()
            found.append((file, stat.st_mtime_ns, stat.st_size))
    except (OSError, ManifestError):
        return ()
    return tuple(found)
