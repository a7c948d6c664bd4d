"""What `broadsheet up`, `apply`, `get` and `delete` do. Exit code 0 only when what was asked has happened."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from broadsheet_operator.api.cluster import ClusterStatus
from broadsheet_operator.api.manifests import KINDS, AnyResource, ManifestError, load_paths
from broadsheet_operator.local import tables
from broadsheet_operator.local.store import FileStore, Reference
from broadsheet_operator.log_lines import timestamp
from broadsheet_operator.reconcilers.reasons import Reason


class Refused(Exception):
    """A command that cannot be carried out; the message says why."""


def complain(message: str, output: str = "table") -> None:
    """Print an error on standard error."""
    if output == "json":
        print(json.dumps({"error": message}), file=sys.stderr)
        return
    first, *rest = message.splitlines() or [""]
    print("\n".join([f"error: {first}", *(f"       {line}" for line in rest)]), file=sys.stderr)


def speaker(output: str) -> Callable[[str, str], None]:
    """How a runtime reports what happens: a line or a JSON object each."""

    def say(what: str, words: str) -> None:
        now = datetime.now().astimezone()
        line = f"{now:%H:%M:%S}  {what:<32} {words}"
        if output == "json":
            line = json.dumps(
                {"time": timestamp(now.timestamp()), "level": "INFO", "logger": "up", "message": words, "about": what}
            )
        # Brokers must be stopped in order even when the reader of the output is gone.
        with suppress(BrokenPipeError):
            print(line, flush=True)

    return say


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C ends at once, as always."""
    stop = threading.Event()

    def handle(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def hold(store: FileStore, data: str) -> Any:
    """Prepare the state directory and become the one who runs in it."""
    try:
        store.prepare()
        context = store.running()
        context.__enter__()
    except BlockingIOError:
        runner = store.runner() or {}
        raise Refused(
            f"another `broadsheet up` runs in {data} already (pid {runner.get('pid', 'unknown')}); "
            "stop it, or choose another directory with --data"
        ) from None
    except OSError as error:
        raise Refused(f"cannot keep state in {data}: {error.strerror}") from None
    return context


def up(paths: Sequence[str], data: str, output: str) -> int:
    """Run what the manifests declare, until Ctrl-C."""
    from broadsheet_operator.local.identity import CannotStart
    from broadsheet_operator.local.runtime import Runtime

    store = FileStore(data)
    say = speaker(output)
    held = hold(store, data)
    runtime = Runtime(paths, store, say)
    try:
        with interrupted() as stop:
            try:
                runtime.start()
                runtime.run(stop)
            finally:
                if runtime.clusters and stop.is_set():
                    say("up", "stopping")
                clean = runtime.stop()
        say("up", "stopped" if clean else "stopped; a broker did not stop in time and was killed")
        return 0 if clean else 1
    except CannotStart as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"cannot keep state in {data}: {error.strerror or error}; its brokers are stopped") from None
    finally:
        held.__exit__(None, None, None)


def _running(data: str) -> FileStore:
    store = FileStore(data)
    if store.runner() is None:
        raise Refused(
            f"nothing runs in {data}: start it with `broadsheet up -f FILE`, or name its directory with --data"
        )
    return store


def apply(paths: Sequence[str], data: str, timeout: float, output: str) -> int:
    """Declare resources and wait until they are ready."""
    resources = load_paths(list(paths))
    store = _running(data)
    if not resources:
        raise Refused("these files declare nothing")
    changes: dict[Reference, str] = {}
    for resource in resources:
        changes[type(resource).__name__, resource.metadata.name] = store.apply(resource)
    deadline = time.monotonic() + timeout
    results: list[dict[str, Any]] = []
    for key, change in changes.items():
        settled, words = _wait_until_settled(store, key, deadline, timeout)
        results.append({"kind": key[0], "name": key[1], "change": change, "ready": settled, "message": words})
        if output != "json":
            print(f"{key[0].lower()}/{key[1]} {change}" + (f" ({words})" if settled and words else ""), flush=True)
            if not settled:
                complain(f"{key[0].lower()}/{key[1]}: {words}")
    if output == "json":
        print(json.dumps(results, indent=2))
    return 0 if all(r["ready"] for r in results) else 1


def _wait_until_settled(store: FileStore, key: Reference, deadline: float, timeout: float) -> tuple[bool, str]:
    """Whether the resource became what was asked, and what there is to say."""
    words = "it was not reconciled yet"
    while True:
        entry = store.entry(*key)
        if entry is None:
            return False, "it was deleted meanwhile"
        status = entry.resource.status
        ready = status.condition("Ready") if status else None
        if status and ready and (status.observed_generation or 0) >= entry.resource.metadata.generation:
            words = f"{ready.reason}: {ready.message}" if ready.message else ready.reason
            exchange = status.exchange if isinstance(status, ClusterStatus) else None
            if ready.status == "True" and exchange:
                words = exchange
            elif ready.status == "True":
                reset = status.condition("Reset")
                if reset is not None and reset.reason == Reason.RESET_PASSED_OVER:
                    return False, f"{reset.reason}: {reset.message}"
                # What is said beside "it is ready" follows a semicolon: properties that no broker knows.
                # Of a group without consumers, that there is none is worth saying.
                absent = ready.reason == Reason.GROUP_NOT_FOUND
                return True, ready.message if absent else ready.message.partition("; ")[2]
            if status.condition("Stalled") is not None or ready.reason == Reason.GROUP_NOT_EMPTY:
                return False, words
        if time.monotonic() >= deadline:
            return False, f"not ready after {timeout:g} s: {words}"
        if store.runner() is None:
            return False, f"`broadsheet up` has ended meanwhile: {words}"
        time.sleep(0.05)


def get(kind: str | None, names: Sequence[str], data: str, output: str) -> int:
    """Print resources."""
    store = FileStore(data)
    if store.runner() is None:
        if not (store.directory / "resources").is_dir():
            raise Refused(f"there is nothing in {data}: start with `broadsheet up -f FILE`, or use --data")
        print(f"note: nothing runs in {data}; this is how it was", file=sys.stderr)
    resources = [resource for name in ([kind] if kind else KINDS) for resource in store.list(name)]
    if names:
        by_name = {r.metadata.name: r for r in resources}
        missing = [n for n in names if n not in by_name]
        resources = [by_name[n] for n in names if n in by_name]
        for name in missing:
            complain(f"{(kind or 'resource').lower()}/{name} is not declared here", output)
        if missing:
            if resources and output != "json":
                _print(resources, output, single=False)
            return 1
    _print(resources, output, single=len(names) == 1)
    return 0


def _print(resources: Sequence[AnyResource], output: str, *, single: bool) -> None:
    if output == "json":
        print(tables.as_json(resources, single=single))
    elif output == "yaml":
        print(tables.as_yaml(resources, single=single))
    elif resources:
        print(tables.tables(resources, wide=output == "wide"))
    else:
        print("nothing is declared here", file=sys.stderr)


def delete(targets: Sequence[Reference], paths: Sequence[str], data: str, timeout: float, output: str) -> int:
    """Delete resources, and wait until that is done."""
    keys = list(targets)
    keys += [(type(r).__name__, r.metadata.name) for r in (load_paths(list(paths)) if paths else [])]
    store = _running(data)
    # Topics and groups first: they need their cluster to be let go in order.
    keys.sort(key=lambda k: k[0] == "Cluster")
    results: list[dict[str, Any]] = []
    deadline = time.monotonic() + timeout
    for kind, name in keys:
        deleted, words = _delete_one(store, kind, name, deadline, timeout)
        results.append({"kind": kind, "name": name, "deleted": deleted, "message": words})
        if output != "json":
            if deleted:
                print(f"{kind.lower()}/{name} deleted" + (f": {words}" if words else ""), flush=True)
            else:
                complain(f"{kind.lower()}/{name}: {words}")
    if output == "json":
        print(json.dumps(results, indent=2))
    return 0 if all(r["deleted"] for r in results) else 1


def _delete_one(store: FileStore, kind: str, name: str, deadline: float, timeout: float) -> tuple[bool, str]:
    """Whether it is gone, and what became of it or why it is still there."""
    before = store.entry(kind, name)
    if before is None or not store.mark_deleted(kind, name, awaited=True):
        return False, "is not declared here"
    uid = before.resource.metadata.uid
    while True:
        entry = store.entry(kind, name)
        if entry is None or entry.resource.metadata.uid != uid:
            return True, store.parting(kind, name, uid)
        status = entry.resource.status
        ready = status.condition("Ready") if status else None
        if time.monotonic() >= deadline or store.runner() is None:
            words = f"still there after {timeout:g} s" + (f": {ready.message}" if ready and ready.message else "")
            return False, words
        time.sleep(0.05)


def manifest_problem(error: ManifestError) -> str:
    """All mistakes, a line each."""
    return "\n".join(str(m) for m in error.mistakes)


def example_file() -> Path:
    """docs/examples/quickstart.yaml of this checkout; without a checkout, a copy in the working directory."""
    from broadsheet_operator.local.example import QUICKSTART

    here = Path(__file__).resolve().parents[3] / "docs" / "examples" / "quickstart.yaml"
    if here.is_file():
        try:
            return Path(os.path.relpath(here))
        except ValueError:
            return here
    copy = Path("quickstart.yaml")
    if not copy.exists():
        copy.write_text(QUICKSTART, encoding="utf-8")
    return copy
