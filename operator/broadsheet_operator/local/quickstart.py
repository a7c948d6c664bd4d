"""`broadsheet quickstart`: a Kafka on this machine, a few orders written and read, and what to try next."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.manifests import AnyResource
from broadsheet_operator.api.meta import Resource
from broadsheet_operator.local import tables
from broadsheet_operator.local.commands import Refused, example_file, hold, interrupted
from broadsheet_operator.local.identity import CannotStart
from broadsheet_operator.local.runtime import Runtime
from broadsheet_operator.local.store import FileStore

TOPIC, GROUP = "orders", "example-consumer"
READY_SECONDS, STEP_SECONDS = 60.0, 30.0
ORDERS_READ, ORDERS_LEFT = 6, 3
ITEMS = (("espresso", 2.4), ("croissant", 2.1), ("newspaper", 3.5))


class _Interrupted(Exception):
    """Ctrl-C in the middle of the demonstration."""


def quickstart(*, once: bool, data: str, port: int | None) -> int:
    """Start docs/examples/quickstart.yaml, show it at work, and stay until Ctrl-C (or end, with `once`)."""
    directory = data
    if once and data == ".broadsheet":
        # A demonstration that ends leaves nothing behind.
        directory = tempfile.mkdtemp(prefix="broadsheet-quickstart-")
    code = _run(Show(sys.stdout), directory, once=once, port=port)
    if directory != data:
        # Only after a good end: the broker's log is needed to find out what went wrong.
        shutil.rmtree(directory, ignore_errors=True)
    return code


def _run(show: Show, directory: str, *, once: bool, port: int | None) -> int:
    file = example_file()
    store = FileStore(directory)
    held = hold(store, directory)
    news: list[tuple[str, str]] = []

    def say(what: str, words: str) -> None:
        news.append((what, words))
        if show.open:
            show.news(what, words)

    runtime = Runtime([str(file)], store, say, adapt=_with_port(port))
    try:
        with interrupted() as stop:
            outcome = Demonstration(runtime, show, stop, file)
            try:
                show.headline()
                runtime.start()
                worker = threading.Thread(target=outcome.run, args=(once,), name="demonstration", daemon=True)
                worker.start()
                while not stop.is_set() and not (outcome.ended and (once or outcome.trouble)):
                    runtime.step()
                    stop.wait(0.1)
                stop.set()
                worker.join(10)
            finally:
                if not once and not outcome.trouble:
                    show.line("\nStopping ...")
                clean = runtime.stop()
            if outcome.trouble:
                raise Refused(outcome.trouble)
            if not once:
                show.line(f"Stopped. The orders are kept in {directory}; start again and they are there.")
            return 0 if clean and (outcome.ended or not once) else 1
    except CannotStart as error:
        hint = "\nOr try another port: broadsheet quickstart --port 19092" if "in use" in str(error) else ""
        raise Refused(f"{error}{hint}") from None
    finally:
        held.__exit__(None, None, None)


def _with_port(port: int | None) -> Callable[[AnyResource], AnyResource]:
    def adapt(resource: AnyResource) -> AnyResource:
        if port is None or not isinstance(resource, Cluster):
            return resource
        listener = resource.listeners()[0].model_copy(update={"port": port})
        spec = resource.spec.model_copy(update={"listeners": [listener]})
        return resource.model_copy(update={"spec": spec})

    return adapt


class Show:
    """What the newcomer sees."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self.open = False
        """True once the demonstration is over: from then on the runtime's news are shown."""

    def line(self, text: str = "") -> None:
        """One line."""
        with suppress(BrokenPipeError):
            print(text, file=self._out, flush=True)

    def bold(self, text: str) -> str:
        """Bold on a terminal."""
        return f"\x1b[1m{text}\x1b[0m" if self._colour else text

    def dim(self, text: str) -> str:
        """Faint on a terminal."""
        return f"\x1b[2m{text}\x1b[0m" if self._colour else text

    def headline(self) -> None:
        """The first thing."""
        self.line(self.bold("BROADSHEET") + self.dim("  Kafka, in Python"))
        self.line()

    def chapter(self, text: str) -> None:
        """A heading."""
        self.line()
        self.line(self.bold(text))

    def news(self, what: str, words: str) -> None:
        """Something that happened later."""
        self.line(f"  {self.dim(time.strftime('%H:%M:%S'))}  {what}  {words}")


@dataclass(frozen=True, slots=True)
class _Order:
    key: str
    value: dict[str, Any]


def _orders(edition: str, first: int, count: int) -> Iterator[_Order]:
    for number in range(first, first + count):
        item, price = ITEMS[number % len(ITEMS)]
        yield _Order(
            f"customer-{number % 3 + 1}",
            {"order": number + 1, "item": item, "price": price, "edition": edition},
        )


class Demonstration:
    """Writes and reads orders as any client would, in a thread beside the runtime's loop."""

    def __init__(self, runtime: Runtime, show: Show, stop: threading.Event, file: Path) -> None:
        self.trouble = ""
        self.ended = False
        self._runtime = runtime
        self._show = show
        self._stop = stop
        self._file = file

    def run(self, once: bool) -> None:
        """The whole demonstration."""
        try:
            self._play(once)
            self.ended = True
        except _Interrupted:
            pass
        except Exception as error:
            self.trouble = str(error) or type(error).__name__
        finally:
            self.ended = True
            self._show.open = True

    def _play(self, once: bool) -> None:
        from kafka import KafkaConsumer, KafkaProducer

        show = self._show
        self._wait("the cluster", lambda: self._ready("Cluster", "quickstart"), READY_SECONDS)
        cluster = self._runtime.clusters["quickstart"]
        server = cluster.bootstrap[0]
        show.line(f"  broker 0 takes requests on {show.bold(server)} {show.dim(f'after {cluster.ready_after:.1f} s')}")
        self._wait("the topic orders", lambda: self._ready("Topic", TOPIC), STEP_SECONDS)
        status: Any = self._resource("Topic", TOPIC)
        count = status.status.partitions
        show.line(f"  topic {TOPIC} has {count} partitions: a newspaper of {count} sections")

        edition = time.strftime("%H:%M:%S")
        producer = KafkaProducer(
            bootstrap_servers=server,
            acks="all",
            key_serializer=str.encode,
            value_serializer=lambda v: json.dumps(v).encode(),
        )
        show.chapter(f"A producer writes to {TOPIC}")
        self._produce(producer, edition, 0, ORDERS_READ, quiet=False)
        show.line(show.dim("  one key, one partition: the orders of each customer stay in order"))
        show.chapter(f"A consumer of the group {GROUP} reads")
        consumer = KafkaConsumer(
            TOPIC,
            bootstrap_servers=server,
            group_id=GROUP,
            client_id="quickstart-reader",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        try:
            # kafka-python may join the group before it knows the topic; it then has no partition for five minutes.
            self._wait("the topic's metadata", lambda: bool(consumer.partitions_for_topic(TOPIC)), STEP_SECONDS)
            self._consume(consumer, edition)
            self._produce(producer, edition, ORDERS_READ, ORDERS_LEFT, quiet=True)
            show.line(show.dim(f"  ... and {ORDERS_LEFT} more orders are written, not read yet"))
            self._wait("the lag", self._lag_is_shown, STEP_SECONDS)
            show.chapter("broadsheet get")
            everything = [e.resource for _, e in sorted(self._runtime.entries.items())]
            for line in tables.tables(everything).splitlines():
                show.line(f"  {line}" if line else "")
        finally:
            consumer.close()
            producer.close(timeout=5)
        if not once:
            self._what_next(server)

    def _produce(self, producer: Any, edition: str, first: int, count: int, *, quiet: bool) -> None:
        sent = [(o, producer.send(TOPIC, key=o.key, value=o.value)) for o in _orders(edition, first, count)]
        for order, pending in sent:
            at = pending.get(timeout=STEP_SECONDS)
            if not quiet:
                self._order(order.key, order.value, at.partition, at.offset, "->")

    def _consume(self, consumer: Any, edition: str) -> None:
        seen = 0
        deadline = time.monotonic() + STEP_SECONDS
        while seen < ORDERS_READ:
            self._check(deadline, "the consumer")
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    value = json.loads(record.value)
                    if value.get("edition") != edition:
                        continue  # of an earlier run, in a state directory that was kept
                    seen += 1
                    self._order(record.key.decode(), value, record.partition, record.offset, "<-")
        consumer.commit()

    def _order(self, key: str, value: dict[str, Any], partition: int, offset: int, arrow: str) -> None:
        place = f"{TOPIC}-{partition} @ {offset}"
        shown = {k: v for k, v in value.items() if k != "edition"}
        self._show.line(f"  {place:<14} {self._show.dim(arrow)} {key}  {json.dumps(shown)}")

    def _lag_is_shown(self) -> bool:
        group: Any = self._resource("ConsumerGroup", GROUP)
        status = group.status if group is not None else None
        cluster: Any = self._resource("Cluster", "quickstart")
        counted = cluster is not None and cluster.status is not None and bool(cluster.status.topics)
        behind = status is not None and status.state == "Stable" and (status.lag or 0) >= ORDERS_LEFT
        return counted and behind

    def _resource(self, kind: str, name: str) -> Resource | None:
        entry = self._runtime.entries.get((kind, name))
        return entry.resource if entry is not None else None

    def _ready(self, kind: str, name: str) -> bool:
        resource: Any = self._resource(kind, name)
        ready = resource.status.condition("Ready") if resource is not None and resource.status is not None else None
        if ready is not None and resource.status.condition("Stalled") is not None:
            raise RuntimeError(f"{kind.lower()}/{name}: {ready.message}")
        return ready is not None and ready.status == "True"

    def _wait(self, what: str, until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            self._check(deadline, what)
            time.sleep(0.02)

    def _check(self, deadline: float, what: str) -> None:
        if self._stop.is_set():
            raise _Interrupted
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not get ready in time; see {self._log_file()}")

    def _log_file(self) -> str:
        brokers = [b for c in self._runtime.clusters.values() for b in c.brokers]
        return str(brokers[0].log_file if brokers else self._runtime.store.directory)

    def _what_next(self, server: str) -> None:
        show = self._show
        command = (
            "broadsheet" if shutil.which("broadsheet") else os.path.relpath(Path(sys.executable).parent / "broadsheet")
        )
        show.chapter("It keeps running. In another terminal:")
        data = str(self._runtime.store.directory)
        where = (
            ""
            if data == str(Path(".broadsheet").absolute())
            else f" --data {min(data, os.path.relpath(data), key=len)}"
        )
        rows = [
            (f"{command} get{where}", "the table above, as it is then"),
            (f"{command} get topic orders -o yaml{where}", "all that is known of the topic"),
            (f"$EDITOR {self._file}", "say partitions: 6, save, and watch here"),
            (f"any Kafka client, bootstrap.servers={server}", "Java, Python, Node, Go: all of them"),
        ]
        width = max(len(a) for a, _ in rows)
        for what, why in rows:
            show.line(f"  {what:<{width}}   {show.dim(why)}")
        show.line()
        show.line(show.dim("Ctrl-C stops it."))
        show.line()
